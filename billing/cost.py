"""What a call costs: a pure function from its seconds and a rate card to a charge and the steps that led to it.

The steps, always in this order: zero test, free seconds, increments, rate, connect fee, minimum and maximum, and one
rounding at the end. Rounding earlier, or in floating point, is how rating engines came to charge 0.3001 for 0.30.

A charge has lines, one for each thing that is paid for; on each, quantity x unit price is its exact amount, and the
rounded amounts of the lines add up to the charge.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

import msgspec
from msgspec.structs import replace

from billing.money import (
    ARITHMETIC,
    ZERO,
    BillingError,
    format_price,
    parse_number,
    round_money,
    shown,
    summed,
    to_money,
)
from billing.rates import RateCard

# Thirty years. Real calls are held to three days by billing.duration; this keeps any number harmless here.
_MAX_SECONDS: Final = 10**9
_SECONDS_PER_MINUTE: Final = Decimal(60)
_ONE: Final = Decimal(1)
_MINUS_ONE: Final = Decimal(-1)
# A provider that asks as much for one call counts in other units.
_MAX_PROVIDER_COST: Final = Decimal(100_000_000)

USAGE: Final = "usage"
CONNECT_FEE: Final = "connect_fee"
MINIMUM: Final = "minimum"
MAXIMUM: Final = "maximum"
MARKUP: Final = "markup"


class Line(msgspec.Struct, frozen=True):
    """One thing that is paid for.

    kind        usage, a component's name, connect_fee, minimum, maximum or markup
    quantity    minutes of usage and of components; US dollars of the provider for markup; units of the card's currency
                for `minimum` and `maximum`, which are quotients that never end, as no price may be; else 1
    unit_price  of one of these; -1 for `maximum`, which takes away
    exact       quantity x unit price; a quotient that never ends is kept to 50 digits
    amount      rounded so that the lines add up to the charge
    """

    kind: str
    quantity: Decimal
    unit_price: Decimal
    exact: Decimal
    amount: Decimal = ZERO


class Charge(msgspec.Struct, frozen=True):
    """What one call costs.

    billed_seconds  what is paid for, after free seconds and increments
    exact           the cost before rounding; a quotient that never ends is kept to 50 digits
    amount          the cost, rounded once to the card's decimals
    currency        ISO 4217
    steps           what was applied, one line each, in order
    lines           what the amount is made of; none for a call of 0 s
    list_amount     what it would have cost, where `amount` is 0 for a reason
    reason          why it is not charged, where it is not
    """

    billed_seconds: int
    exact: Decimal
    amount: Decimal
    currency: str
    steps: tuple[str, ...]
    lines: tuple[Line, ...] = ()
    list_amount: Decimal | None = None
    reason: str | None = None


def cost(
    duration_seconds: int | Decimal | str,
    card: RateCard,
    *,
    provider_cost: Decimal | None = None,
    waived: str | None = None,
) -> Charge:
    """Rate one call. Part of a second counts as a whole one; a call of 0 s costs nothing at all.

    `provider_cost` (US dollars) is needed by a card with a markup and ignored by others. `waived` is the reason why
    the call is not charged (the customer pays the provider, say): its amount is 0 and its list amount what it would
    have been, None where a markup has nothing to multiply. Raises BillingError with the field `duration_seconds` for
    float, bool, negative, not finite or absurd durations, and with the field `provider_cost` where that is needed and
    missing, or no amount that to_money takes, negative or absurd.
    """
    charge = _cost(duration_seconds, card, provider_cost, is_waived=waived is not None)
    return charge if waived is None else _waived(charge, card, waived)


def _cost(
    duration_seconds: int | Decimal | str, card: RateCard, provider_cost: Decimal | None, *, is_waived: bool
) -> Charge:
    seconds = duration_seconds if type(duration_seconds) is int else _decimal_seconds(duration_seconds)
    if not 0 <= seconds <= _MAX_SECONDS:
        raise _refused("must be from 0 to 1,000,000,000")
    if seconds == 0:
        amount = round_money(ZERO, decimals=card.decimals)
        return Charge(0, ZERO, amount, card.currency, ("0 s costs nothing",))

    steps: list[str] = []
    billed = _billed(seconds, card, steps)
    if card.markup is None:
        exact, lines = _usage(billed, card, steps)
    elif provider_cost is None and is_waived:
        return Charge(billed, ZERO, ZERO, card.currency, (*steps, "the provider's cost is not known"))
    else:
        exact, lines = _marked_up(provider_cost, card.markup, steps)
    if card.connect_fee:
        exact = ARITHMETIC.add(exact, card.connect_fee)
        lines.append(Line(CONNECT_FEE, _ONE, card.connect_fee, card.connect_fee))
        steps.append(f"plus the connect fee of {_fee(card.connect_fee, card)} = {shown(exact)}")
    if card.min_charge is not None and exact < card.min_charge:
        missing = ARITHMETIC.subtract(card.min_charge, exact)
        exact = card.min_charge
        lines.append(Line(MINIMUM, missing, _ONE, missing))
        steps.append(f"raised to the minimum charge of {_fee(exact, card)}")
    if card.max_charge is not None and exact > card.max_charge:
        excess = ARITHMETIC.subtract(exact, card.max_charge)
        exact = card.max_charge
        lines.append(Line(MAXIMUM, excess, _MINUS_ONE, ARITHMETIC.minus(excess)))
        steps.append(f"lowered to the maximum charge of {_fee(exact, card)}")
    amount = round_money(exact, decimals=card.decimals, rounding=card.rounding)
    steps.append(f"rounded {card.rounding.replace('_', ' ')} to {card.decimals} decimals: {amount:f}")
    return Charge(billed, exact, amount, card.currency, tuple(steps), _shared(amount, lines, card.decimals))


def billed_seconds(seconds: int, card: RateCard) -> int:
    """How many seconds are paid for: none for 0, the initial increment at least, then whole increments after it.

    Later increments start where the first one ends, so 61 s on 60/7 bill 67 s (as CGRateS and Kazoo do).
    """
    if seconds == 0:
        return 0
    beyond = seconds - card.initial_seconds
    if beyond <= 0:
        return card.initial_seconds
    return card.initial_seconds + -(-beyond // card.increment_seconds) * card.increment_seconds


def _billed(seconds: int | Decimal, card: RateCard, steps: list[str]) -> int:
    whole_seconds = seconds if isinstance(seconds, int) else _round_up(seconds)
    if whole_seconds != seconds:
        steps.append(f"{seconds} s counts as {whole_seconds} s")
    charged_seconds = whole_seconds
    if card.free_seconds:
        charged_seconds = max(whole_seconds - card.free_seconds, 0)
        steps.append(f"{whole_seconds} s less {card.free_seconds} s free leaves {charged_seconds} s")
    billed = billed_seconds(charged_seconds, card)
    steps.append(f"{charged_seconds} s on {card.initial_seconds}/{card.increment_seconds} bills {billed} s")
    return billed


def _usage(billed: int, card: RateCard, steps: list[str]) -> tuple[Decimal, list[Line]]:
    """The minutes, and their lines: one, or one for each component of the price.

    Their cost is that of the whole price. A sum of components' quotients, each cut where it never ends, may lie on the
    other side of a tie.
    """
    minutes = ARITHMETIC.divide(Decimal(billed), _SECONDS_PER_MINUTE)
    prices = card.components or ((USAGE, card.per_minute),)
    lines = [Line(kind, minutes, price, _for_seconds(price, billed)) for kind, price in prices]
    exact = _for_seconds(card.per_minute, billed)
    steps.append(f"{billed} s x {card.price} = {shown(exact)}")
    steps += [f"of it {line.kind.replace('_', ' ')}: {shown(line.exact)}" for line in lines if card.components]
    return exact, lines


def _marked_up(provider_cost: object, markup: Decimal, steps: list[str]) -> tuple[Decimal, list[Line]]:
    if provider_cost is None:
        raise BillingError("provider_cost is needed by this card, in US dollars", field="provider_cost")
    dollars = to_money(provider_cost, field="provider_cost")
    if not 0 <= dollars <= _MAX_PROVIDER_COST:
        raise BillingError(f"provider_cost must be from 0 to {_MAX_PROVIDER_COST:,}", field="provider_cost")
    exact = ARITHMETIC.multiply(dollars, markup)
    steps.append(f"{dollars:f} USD of the provider x {markup:f} = {shown(exact)}")
    return exact, [Line(MARKUP, dollars, markup, exact)]


def _for_seconds(per_minute: Decimal, seconds: int) -> Decimal:
    # Multiplied first: a quotient that never ends is cut once, at the end.
    return ARITHMETIC.divide(ARITHMETIC.multiply(per_minute, Decimal(seconds)), _SECONDS_PER_MINUTE)


def _shared(amount: Decimal, lines: Sequence[Line], decimals: int) -> tuple[Line, ...]:
    """The lines with rounded amounts that add up to `amount`, each less than one unit from its exact one.

    Largest remainder: each is rounded down, and what is left goes, a unit each, to those that lost the most.
    """
    if len(lines) == 1:
        return (replace(lines[0], amount=amount),)
    unit = Decimal((0, (1,), -decimals))
    floors = [line.exact.quantize(unit, ROUND_FLOOR, ARITHMETIC) for line in lines]
    missing = ARITHMETIC.subtract(amount, summed(floors))
    lost = sorted(range(len(lines)), key=lambda place: ARITHMETIC.subtract(floors[place], lines[place].exact))
    raised = set(lost[: int(ARITHMETIC.divide(missing, unit))])
    return tuple(
        replace(line, amount=ARITHMETIC.add(floors[place], unit) if place in raised else floors[place])
        for place, line in enumerate(lines)
    )


def _waived(charge: Charge, card: RateCard, reason: str) -> Charge:
    nothing = round_money(ZERO, decimals=card.decimals)
    steps = (*charge.steps, f"not charged: {reason.replace('_', ' ')}")
    is_unknown = charge.billed_seconds > 0 and not charge.lines
    listed = None if is_unknown else charge.amount
    return replace(charge, exact=ZERO, amount=nothing, steps=steps, lines=(), list_amount=listed, reason=reason)


def _decimal_seconds(value: object) -> Decimal:
    seconds = parse_number(value) if isinstance(value, str) else value
    if not isinstance(seconds, Decimal) or not seconds.is_finite():
        raise _refused("must be whole or decimal seconds")
    return seconds


def _round_up(seconds: Decimal) -> int:
    """Increments are whole, so rounding up first changes nothing that is billed."""
    return int(seconds.to_integral_value(ROUND_CEILING, ARITHMETIC))


def _refused(why: str) -> BillingError:
    return BillingError(f"duration_seconds {why}", field="duration_seconds")


def _fee(amount: Decimal, card: RateCard) -> str:
    return f"{format_price(amount, card.currency)} {card.currency}"
