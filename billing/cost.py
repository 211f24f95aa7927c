"""What a call costs: a pure function from its seconds and a rate card to a charge and the steps that led to it.

The steps, always in this order: zero test, free seconds, increments, rate, connect fee, minimum and maximum, and one
rounding at the end. Rounding earlier, or in floating point, is how rating engines came to charge 0.3001 for 0.30.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

from billing.money import ARITHMETIC, ZERO, BillingError, format_price, parse_number, round_money
from billing.rates import RateCard

# Thirty years. Real calls are held to three days by billing.duration; this keeps any number harmless here.
_MAX_SECONDS: Final = 10**9
_SECONDS_PER_MINUTE: Final = Decimal(60)
# Six decimals of a price and two of a sixtieth: an amount with more than that goes on for ever, such as 0.10 / 60.
_SHOWN_DECIMALS: Final = 8


@dataclass(frozen=True, slots=True)
class Charge:
    """What one call costs.

    billed_seconds  what is paid for, after free seconds and increments
    exact           the cost before rounding; a quotient that never ends is kept to 50 digits
    amount          the cost, rounded once to the card's decimals
    currency        ISO 4217
    steps           what was applied, one line each, in order
    """

    billed_seconds: int
    exact: Decimal
    amount: Decimal
    currency: str
    steps: tuple[str, ...]


def cost(duration_seconds: int | Decimal | str, card: RateCard) -> Charge:
    """Rate one call. Part of a second counts as a whole one; a call of 0 s costs nothing at all.

    Raises BillingError with the field `duration_seconds` for float, bool, negative, not finite or absurd durations.
    """
    seconds = duration_seconds if type(duration_seconds) is int else _decimal_seconds(duration_seconds)
    if not 0 <= seconds <= _MAX_SECONDS:
        raise _refused("must be from 0 to 1,000,000,000")
    if seconds == 0:
        amount = round_money(ZERO, decimals=card.decimals)
        return Charge(0, ZERO, amount, card.currency, ("0 s costs nothing",))

    steps = []
    whole_seconds = seconds if isinstance(seconds, int) else _round_up(seconds)
    if whole_seconds != seconds:
        steps.append(f"{seconds} s counts as {whole_seconds} s")
    charged_seconds = whole_seconds
    if card.free_seconds:
        charged_seconds = max(whole_seconds - card.free_seconds, 0)
        steps.append(f"{whole_seconds} s less {card.free_seconds} s free leaves {charged_seconds} s")
    billed = billed_seconds(charged_seconds, card)
    steps.append(f"{charged_seconds} s on {card.initial_seconds}/{card.increment_seconds} bills {billed} s")
    exact = ARITHMETIC.divide(ARITHMETIC.multiply(card.per_minute, Decimal(billed)), _SECONDS_PER_MINUTE)
    steps.append(f"{billed} s x {card.price} = {_shown(exact)}")
    if card.connect_fee:
        exact = ARITHMETIC.add(exact, card.connect_fee)
        steps.append(f"plus the connect fee of {_fee(card.connect_fee, card)} = {_shown(exact)}")
    if card.min_charge is not None and exact < card.min_charge:
        exact = card.min_charge
        steps.append(f"raised to the minimum charge of {_fee(exact, card)}")
    if card.max_charge is not None and exact > card.max_charge:
        exact = card.max_charge
        steps.append(f"lowered to the maximum charge of {_fee(exact, card)}")
    amount = round_money(exact, decimals=card.decimals, rounding=card.rounding)
    steps.append(f"rounded {card.rounding.replace('_', ' ')} to {card.decimals} decimals: {amount:f}")
    return Charge(billed, exact, amount, card.currency, tuple(steps))


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


def _shown(amount: Decimal) -> str:
    """An amount for a step: without an exponent, cut short visibly where it goes on."""
    text = format(amount, "f")
    point = text.find(".")
    if 0 <= point < len(text) - _SHOWN_DECIMALS - 1:
        return text[: point + _SHOWN_DECIMALS + 1] + "..."
    return text
