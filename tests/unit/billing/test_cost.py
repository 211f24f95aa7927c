"""What calls cost: the published table, the order of the steps, and laws that hold for every card."""

from __future__ import annotations

import decimal
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.cost import Charge, Line, billed_seconds, cost
from billing.duration import LIMITS_SECONDS, SLACK_SECONDS
from billing.money import MINOR_UNITS, ROUNDINGS, BillingError
from billing.rates import COMPONENTS, RateCard, parse_increments

SECONDS = (0, 1, 7, 29, 31, 60, 61, 90, 125)
# Billed seconds and cost at $0.10/min, half up at six decimals, for each of SECONDS.
TABLE = {
    "1/1": "0:0 1:0.001667 7:0.011667 29:0.048333 31:0.051667 60:0.1 61:0.101667 90:0.15 125:0.208333",
    "6/6": "0:0 6:0.01 12:0.02 30:0.05 36:0.06 60:0.1 66:0.11 90:0.15 126:0.21",
    "30/6": "0:0 30:0.05 30:0.05 30:0.05 36:0.06 60:0.1 66:0.11 90:0.15 126:0.21",
    "60/1": "0:0 60:0.1 60:0.1 60:0.1 60:0.1 60:0.1 61:0.101667 90:0.15 125:0.208333",
    "60/60": "0:0 60:0.1 60:0.1 60:0.1 60:0.1 60:0.1 120:0.2 120:0.2 180:0.3",
}
ROWS = [
    (increments, seconds, int(cell.split(":")[0]), Decimal(cell.split(":")[1]))
    for increments, cells in TABLE.items()
    for seconds, cell in zip(SECONDS, cells.split(), strict=True)
]


def card_of(increments: str = "1/1", per_minute: str = "0.10", **fields: Any) -> RateCard:
    """A card at ten cents a minute unless it says otherwise."""
    initial, following = parse_increments(increments)
    return RateCard(per_minute, initial_seconds=initial, increment_seconds=following, **fields)


@pytest.mark.parametrize(("increments", "seconds", "billed", "amount"), ROWS)
def test_charges_what_the_table_says(increments: str, seconds: int, billed: int, amount: Decimal) -> None:
    """Each preset bills and costs what telephony expects of it."""
    charge = cost(seconds, card_of(increments))
    assert (charge.billed_seconds, charge.amount, charge.currency) == (billed, amount, "USD")


@pytest.mark.parametrize(
    ("increments", "seconds", "billed"),
    [
        ("60/6", 1, 60),  # the preset that the table leaves out
        ("60/6", 60, 60),
        ("60/6", 61, 66),
        ("60/6", 125, 126),
        ("60/7", 60, 60),
        ("60/7", 61, 67),  # later increments start where the first one ends (CGRateS, Kazoo)
        ("60/7", 67, 67),
        ("60/7", 68, 74),
        ("60/6", 91, 96),
        ("1/60", 2, 61),
        ("5/3", 5, 5),
    ],
)
def test_counts_increments_after_the_initial_one(increments: str, seconds: int, billed: int) -> None:
    """The first increment need not be a multiple of the next."""
    assert billed_seconds(seconds, card_of(increments)) == billed


@pytest.mark.parametrize(
    ("duration", "billed"),
    [
        (91, 91),
        ("91", 91),
        (Decimal("91.000"), 91),
        ("90.001", 91),
        (Decimal("0.001"), 1),
        ("1e-999999", 1),  # more than nothing, and harmless
        ("9e1", 90),
        ("0.000", 0),
        (Decimal("-0"), 0),
        (10**9, 10**9),
    ],
)
def test_counts_part_of_a_second_as_a_whole_one(duration: int | Decimal | str, billed: int) -> None:
    """Whole seconds, decimals and a provider's text are rated alike."""
    assert cost(duration, card_of()).billed_seconds == billed


NO_DURATIONS = (
    1.0, 0.0, True, False, None, b"1", -1, "-1", Decimal("-0.5"), "-1e999999", 10**9 + 1, 10**100,
    Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), "NaN", "inf", "", "+1", "1_0", " 1", "\u0661",
    "1e999999", Decimal("1e999999"), "1e99999999",
)  # fmt: skip


@pytest.mark.parametrize("duration", NO_DURATIONS)
def test_refuses_a_duration_that_is_none(duration: Any) -> None:
    """Floats, bools, negative and absurd durations name the field."""
    with pytest.raises(BillingError) as refused:
        cost(duration, card_of())
    assert refused.value.field == "duration_seconds"


FULL = {"connect_fee": "0.05", "free_seconds": 30, "min_charge": "0.06", "max_charge": "0.20"}


@pytest.mark.parametrize(
    ("fields", "seconds", "billed", "amount"),
    [
        (FULL, 0, 0, "0"),  # no connect fee and no minimum for a call that did not last
        (FULL, 20, 0, "0.06"),  # free seconds cover it: connect fee 0.05, raised to the minimum
        ({**FULL, "min_charge": None}, 20, 0, "0.05"),  # the connect fee stays when free seconds cover the call
        (FULL, 30, 0, "0.06"),
        (FULL, 31, 60, "0.15"),  # free seconds come off before the initial minute is counted
        (FULL, 90, 60, "0.15"),
        (FULL, 91, 66, "0.16"),
        (FULL, 125, 96, "0.20"),  # 0.21, lowered to the maximum
        ({"connect_fee": "0.05", "max_charge": "0.02"}, 1, 60, "0.02"),  # the maximum covers the connect fee too
        ({"min_charge": "0.10"}, 60, 60, "0.10"),  # exactly the minimum is not raised
        ({"free_seconds": 60, "per_minute": "0"}, 61, 60, "0"),
        ({"per_minute": "0", "min_charge": "0.01"}, 1, 60, "0.01"),
    ],
)
def test_applies_the_steps_in_order(fields: dict[str, Any], seconds: int, billed: int, amount: str) -> None:
    """Zero test, free seconds, increments, rate, connect fee, minimum and maximum."""
    charge = cost(seconds, card_of("60/6", **fields))
    assert (charge.billed_seconds, charge.amount) == (billed, Decimal(amount))


@pytest.mark.parametrize(
    ("decimals", "rounding", "amount"),
    [
        # 29 s at 0.15 cost 0.0725
        (6, "half_up", "0.072500"),
        (3, "half_up", "0.073"),
        (3, "half_even", "0.072"),
        (3, "half_down", "0.072"),
        (3, "up", "0.073"),
        (3, "down", "0.072"),
        (2, "up", "0.08"),
        (0, "half_up", "0"),
        (0, "up", "1"),
    ],
)
def test_rounds_once_at_the_end(decimals: int, rounding: str, amount: str) -> None:
    """The card's decimals and mode decide the last step and nothing before it."""
    charge = cost(29, card_of(per_minute="0.15", decimals=decimals, rounding=rounding))
    assert charge.exact == Decimal("0.0725")
    assert str(charge.amount) == amount


def test_adds_the_connect_fee_before_it_rounds() -> None:
    """Two thirds of a cent and a connect fee are rounded together."""
    charge = cost(1, card_of(per_minute="0.20", connect_fee="0.002", decimals=2))
    assert (str(charge.exact)[:12], charge.amount) == ("0.0053333333", Decimal("0.01"))


def test_clamps_before_it_rounds() -> None:
    """A maximum that is finer than the card's decimals is rounded like any other cost."""
    assert cost(600, card_of(max_charge="0.155", decimals=2)).amount == Decimal("0.16")


@pytest.mark.parametrize(
    ("duration", "card", "steps"),
    [
        (0, card_of(connect_fee=1), ("0 s costs nothing",)),
        (
            91,
            card_of("60/6"),
            (
                "91 s on 60/6 bills 96 s",
                "96 s x 0.10 USD/min = 0.16",
                "rounded half up to 6 decimals: 0.160000",
            ),
        ),
        (
            "0.4",
            card_of(),
            (
                "0.4 s counts as 1 s",
                "1 s on 1/1 bills 1 s",
                "1 s x 0.10 USD/min = 0.00166666...",
                "rounded half up to 6 decimals: 0.001667",
            ),
        ),
        (
            90,
            card_of("60/60", "15", currency="JPY", free_seconds=20, connect_fee=5, max_charge=30, decimals=0),
            (
                "90 s less 20 s free leaves 70 s",
                "70 s on 60/60 bills 120 s",
                "120 s x 15 JPY/min = 30",
                "plus the connect fee of 5 JPY = 35",
                "lowered to the maximum charge of 30 JPY",
                "rounded half up to 0 decimals: 30",
            ),
        ),
        (
            60,
            card_of(min_charge="0.10", max_charge="0.10"),
            (
                "60 s on 1/1 bills 60 s",
                "60 s x 0.10 USD/min = 0.1",  # exactly at both limits: neither is a step
                "rounded half up to 6 decimals: 0.100000",
            ),
        ),
        (
            1,
            card_of(per_minute="0.000003"),
            (
                "1 s on 1/1 bills 1 s",
                "1 s x 0.000003 USD/min = 0.00000005",  # whole, hence shown whole
                "rounded half up to 6 decimals: 0.000000",
            ),
        ),
        (
            10,
            card_of("6/6", min_charge="0.5", rounding="half_even", decimals=2),
            (
                "10 s on 6/6 bills 12 s",
                "12 s x 0.10 USD/min = 0.02",
                "raised to the minimum charge of 0.50 USD",
                "rounded half even to 2 decimals: 0.50",
            ),
        ),
    ],
)
def test_tells_its_steps_in_plain_words(duration: int | str, card: RateCard, steps: tuple[str, ...]) -> None:
    """Someone with a pencil can follow the charge."""
    assert cost(duration, card).steps == steps


def test_tells_the_same_steps_however_the_seconds_are_written() -> None:
    """An int, a Decimal and a provider's text of the same length freeze the same charge."""
    assert cost(91, card_of()) == cost("91", card_of()) == cost(Decimal("91.000"), card_of())


def test_ignores_and_leaves_alone_the_ambient_decimal_context() -> None:
    """Another library's precision, rounding and traps change no bill, and no flag of theirs is raised."""
    card = card_of("60/7", "0.123457", connect_fee="0.05", free_seconds=3, min_charge="0.01", max_charge=9)
    expected = cost("123.4", card)
    hostile = decimal.Context(prec=2, rounding=decimal.ROUND_UP, traps=[decimal.Inexact, decimal.Rounded])
    with decimal.localcontext(hostile) as ambient:
        assert cost("123.4", card) == expected
        assert not any(ambient.flags.values())


def test_stays_within_the_ledgers_columns() -> None:
    """The dearest card and the longest call fit NUMERIC(18,6)."""
    dearest = RateCard(10**8, initial_seconds=1, increment_seconds=86_400, connect_fee=10**8)
    assert cost(86_400, dearest).amount < 10**12


money = st.decimals(min_value=0, max_value=10**8, places=6, allow_nan=False, allow_infinity=False)
whole = st.integers(min_value=0, max_value=86_400)
part = st.decimals(min_value=0, max_value=86_400, places=3, allow_nan=False, allow_infinity=False)
seconds = whole | part
# What is sold most, so that it is drawn often.
TELEPHONY = [(1, 1), (6, 6), (30, 6), (60, 1), (60, 6), (60, 60)]


# Prices that are made of others: a few millionths of each, so that sixtieths end in ties.
parts = st.dictionaries(
    st.sampled_from(COMPONENTS), st.integers(0, 10**7).map(lambda part: Decimal(part).scaleb(-6)), min_size=1
).map(lambda prices: (sum(prices.values(), Decimal(0)), prices))


@st.composite
def cards(draw: st.DrawFn) -> RateCard:
    """Any card that can be made."""
    low, high = sorted((draw(money), draw(money)))
    initial, following = draw(st.sampled_from(TELEPHONY) | st.tuples(*[st.integers(1, 3600)] * 2))
    per_minute, components = draw(st.tuples(money, st.none()) | parts)
    return RateCard(
        per_minute,
        draw(st.sampled_from(sorted(MINOR_UNITS))),
        initial_seconds=initial,
        increment_seconds=following,
        connect_fee=draw(money),
        free_seconds=draw(st.integers(0, 3600)),
        min_charge=draw(st.sampled_from([None, low])),
        max_charge=draw(st.sampled_from([None, high])),
        decimals=draw(st.integers(0, 6)),
        rounding=draw(st.sampled_from(sorted(ROUNDINGS))),
        components=components,
    )


@st.composite
def marked_up(draw: st.DrawFn) -> RateCard:
    """Any card that charges what the provider asks, and more."""
    low, high = sorted((draw(money), draw(money)))
    return RateCard(
        0,
        markup=draw(st.decimals("0.000001", 1000, places=6)),
        connect_fee=draw(money),
        min_charge=draw(st.sampled_from([None, low])),
        max_charge=draw(st.sampled_from([None, high])),
        decimals=draw(st.integers(0, 6)),
        rounding=draw(st.sampled_from(sorted(ROUNDINGS))),
    )


def exactly(duration: int | Decimal, card: RateCard) -> Fraction:
    """The cost before rounding by the published formula, in fractions."""
    if duration == 0:
        return Fraction(0)
    left = max(Fraction(duration) - card.free_seconds, Fraction(0))
    over = left - card.initial_seconds
    billed = (
        Fraction(0)
        if left == 0
        else card.initial_seconds + max(-(-over // card.increment_seconds), 0) * card.increment_seconds
    )
    total = Fraction(card.connect_fee) + Fraction(card.per_minute) * billed / 60
    total = max(total, Fraction(card.min_charge or 0))
    return total if card.max_charge is None else min(total, Fraction(card.max_charge))


@given(duration=seconds, card=cards())
def test_agrees_with_the_formula_in_fractions(duration: int | Decimal, card: RateCard) -> None:
    """Fractions of seconds, clamps and all: the amount is the formula's, rounded within its last decimal."""
    amount = Fraction(cost(duration, card).amount)
    error = abs(amount - exactly(duration, card)) * 10**card.decimals
    assert error <= Fraction(1, 2) if card.rounding.startswith("half") else error < 1


@given(one=seconds, other=seconds, card=cards())
def test_never_costs_less_for_a_longer_call(one: int | Decimal, other: int | Decimal, card: RateCard) -> None:
    """Cost and billed seconds are monotone in the duration."""
    shorter, longer = cost(min(one, other), card), cost(max(one, other), card)
    assert shorter.amount <= longer.amount
    assert shorter.billed_seconds <= longer.billed_seconds


@given(duration=seconds, card=cards())
def test_never_bills_less_than_the_seconds_that_are_not_free(duration: int | Decimal, card: RateCard) -> None:
    """Increments only ever add, and less than one of them beyond the first."""
    billed = cost(duration, card).billed_seconds
    left = max(Fraction(duration) - card.free_seconds, Fraction(0))
    assert left <= billed < max(left, Fraction(card.initial_seconds)) + card.increment_seconds


@given(card=cards())
def test_costs_nothing_when_a_call_did_not_last(card: RateCard) -> None:
    """No connect fee and no minimum are charged for 0 s."""
    charge = cost(0, card)
    assert charge.billed_seconds == 0
    assert charge.exact == charge.amount == 0


@given(duration=whole, per_minute=money)
def test_bills_by_the_second_what_the_seconds_are_worth(duration: int, per_minute: Decimal) -> None:
    """1/1 is duration x rate / 60 to within half a unit of the last decimal."""
    amount = cost(duration, RateCard(per_minute)).amount
    assert abs(Fraction(amount) - Fraction(per_minute) * duration / 60) <= Fraction(1, 2 * 10**6)


def test_the_longest_call_at_the_highest_price_fits_the_ledger() -> None:
    """Agora's three days, in the coarsest increments, with every fee: twelve digits before the point."""
    highest = Decimal(100_000_000)
    longest = LIMITS_SECONDS["agora"] + SLACK_SECONDS
    card = RateCard(highest, initial_seconds=86_400, increment_seconds=86_400, connect_fee=highest)
    assert cost(longest, card).amount < 10**12


# Lines


def line(kind: str, quantity: str, unit_price: str, exact: str, amount: str) -> Line:
    """A line of a charge."""
    return Line(kind, *map(Decimal, (quantity, unit_price, exact, amount)))


@pytest.mark.parametrize(
    ("seconds", "fields", "lines"),
    [
        (60, {}, [line("usage", "1", "0.1", "0.1", "0.1")]),
        (0, FULL, []),
        # Free seconds cover it: no minutes, a connect fee, and what is missing of the minimum.
        (
            20,
            FULL,
            [
                line("usage", "0", "0.1", "0", "0"),
                line("connect_fee", "1", "0.05", "0.05", "0.05"),
                line("minimum", "0.01", "1", "0.01", "0.01"),
            ],
        ),
        # 0.16 for 96 s and the fee are 0.21: a cent above the maximum is taken off by a line of its own.
        (
            125,
            FULL,
            [
                line("usage", "1.6", "0.1", "0.16", "0.16"),
                line("connect_fee", "1", "0.05", "0.05", "0.05"),
                line("maximum", "0.01", "-1", "-0.01", "-0.01"),
            ],
        ),
        # Components, in the order in which they are shown; cents go to those that lost the most (largest remainder).
        (
            60,
            {
                "per_minute": "0.05",
                "decimals": 2,
                "components": {"llm": "0.019", "platform": "0.013", "telephony": "0.018"},
            },
            [
                line("platform", "1", "0.013", "0.013", "0.01"),
                line("llm", "1", "0.019", "0.019", "0.02"),
                line("telephony", "1", "0.018", "0.018", "0.02"),
            ],
        ),
    ],
)
def test_a_charge_is_made_of_lines(seconds: int, fields: dict[str, Any], lines: list[Line]) -> None:
    """One for each thing that is paid for."""
    assert list(cost(seconds, card_of("60/6", **fields)).lines) == lines


@pytest.mark.parametrize(
    ("per_minute", "components", "seconds", "rounding", "amount"),
    [
        # 0.01 exactly, of which each third never ends: a sum of cut thirds would be 0.009999...
        ("0.03", {"platform": "0.01", "llm": "0.01", "telephony": "0.01"}, 20, "down", "0.010000"),
        # 0.0000005 exactly: a sum of cut parts would lie above the tie.
        ("0.00003", {"platform": "0.00001", "llm": "0.00001", "telephony": "0.00001"}, 1, "half_down", "0.000000"),
        ("0.00003", {"platform": "0.00001", "llm": "0.00001", "telephony": "0.00001"}, 1, "half_up", "0.000001"),
    ],
)
def test_components_change_no_price(
    per_minute: str, components: dict[str, str], seconds: int, rounding: str, amount: str
) -> None:
    """What a minute is made of is shown; what it costs is its price."""
    whole = cost(seconds, RateCard(per_minute, rounding=rounding))
    parts = cost(seconds, RateCard(per_minute, rounding=rounding, components=components))
    assert str(parts.amount) == str(whole.amount) == amount
    assert parts.exact == whole.exact


@given(duration=seconds, card=cards())
def test_lines_add_up(duration: int | Decimal, card: RateCard) -> None:
    """Their amounts to the charge's, exactly; quantity x unit price is exact on each, and rounded within a unit."""
    _assert_adds_up(cost(duration, card), card)


@given(duration=seconds, card=marked_up(), dollars=st.decimals(0, 1000, places=6))
def test_lines_of_a_markup_add_up(duration: int | Decimal, card: RateCard, dollars: Decimal) -> None:
    """The same where the provider's cost is what is multiplied."""
    charge = cost(duration, card, provider_cost=dollars)
    _assert_adds_up(charge, card)
    if duration:
        assert charge.lines[0].exact == Fraction(dollars) * Fraction(str(card.markup))


def _assert_adds_up(charge: Charge, card: RateCard) -> None:
    unit, tiny = Fraction(1, 10**card.decimals), Fraction(1, 10**30)
    assert sum((Fraction(one.amount) for one in charge.lines), Fraction(0)) == Fraction(charge.amount)
    assert abs(sum((Fraction(one.exact) for one in charge.lines), Fraction(0)) - Fraction(charge.exact)) < tiny
    for one in charge.lines:
        assert abs(Fraction(one.quantity) * Fraction(one.unit_price) - Fraction(one.exact)) < tiny
        assert abs(Fraction(one.amount) - Fraction(one.exact)) < unit
        assert -one.amount.as_tuple().exponent == card.decimals  # type: ignore[operator]


@given(duration=seconds, priced=parts)
def test_components_sum_to_the_total(duration: int | Decimal, priced: tuple[Decimal, dict[str, Decimal]]) -> None:
    """And the total is what it would be in one."""
    per_minute, components = priced
    charge = cost(duration, RateCard(per_minute, components=components))
    assert charge.amount == cost(duration, RateCard(per_minute)).amount
    assert {one.kind for one in charge.lines} <= set(components)


# Markup


@pytest.mark.parametrize(
    ("fields", "dollars", "amount", "steps"),
    [
        ({"markup": "1.2"}, "0.071", "0.085200", "0.071 USD of the provider x 1.2 = 0.0852"),
        ({"markup": "1.2"}, "0", "0.000000", "0 USD of the provider x 1.2 = 0.0"),
        ({"markup": "0.5", "decimals": 2}, "0.05", "0.03", "0.05 USD of the provider x 0.5 = 0.025"),
        ({"markup": 2, "min_charge": "0.10"}, "0.01", "0.100000", "0.01 USD of the provider x 2 = 0.02"),
    ],
)
def test_a_markup_multiplies_what_the_provider_asks(
    fields: dict[str, Any], dollars: str, amount: str, steps: str
) -> None:
    """Rounded at the end; seconds are counted, and cost nothing."""
    charge = cost(91, RateCard(0, **fields), provider_cost=Decimal(dollars))
    assert (str(charge.amount), charge.billed_seconds, charge.steps[1]) == (amount, 91, steps)


NO_DOLLARS = (
    None, -1, 0.5, True, Decimal("NaN"), Decimal("Infinity"), Decimal("1e-7"), Decimal("1e999999"), 10**8 + 1,
)  # fmt: skip


@pytest.mark.parametrize("dollars", NO_DOLLARS)
def test_a_markup_needs_an_amount(dollars: Any) -> None:
    """Nothing is charged by nonsense; a card without a markup does not look at it."""
    with pytest.raises(BillingError) as refused:
        cost(91, RateCard(0, markup=1), provider_cost=dollars)
    assert refused.value.field == "provider_cost"
    assert cost(60, card_of(), provider_cost=dollars).amount == Decimal("0.1")


# Calls that are not charged


@given(duration=seconds, card=cards())
def test_a_waived_call_costs_nothing_and_says_what_it_would(duration: int | Decimal, card: RateCard) -> None:
    """The list price is what would have been charged; the reason is the last step."""
    charged, waived = cost(duration, card), cost(duration, card, waived="own_provider_key")
    assert waived.amount == waived.exact == 0
    assert (waived.lines, waived.reason) == ((), "own_provider_key")
    assert (waived.list_amount, waived.billed_seconds) == (charged.amount, charged.billed_seconds)
    assert waived.steps == (*charged.steps, "not charged: own provider key")


def test_a_waived_call_needs_no_cost_of_the_provider() -> None:
    """Nobody knows what it would have been, and nobody has to pay it."""
    card = RateCard(0, markup="1.2")
    waived = cost(91, card, waived="own_provider_key")
    assert (str(waived.amount), waived.list_amount, waived.billed_seconds) == ("0.000000", None, 91)
    assert waived.steps[-2:] == ("the provider's cost is not known", "not charged: own provider key")
    assert cost(91, card, waived="own_provider_key", provider_cost=Decimal(1)).list_amount == Decimal("1.2")
    assert cost(0, card, waived="own_provider_key").list_amount == 0
