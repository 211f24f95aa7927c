"""Amounts are read strictly, rounded once and written without surprises."""

from __future__ import annotations

import decimal
from collections import Counter
from decimal import Decimal

import pytest

from billing.money import (
    MINOR_UNITS,
    BillingError,
    format_price,
    minor_unit,
    parse_number,
    round_money,
    to_money,
)


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("0.10", "0.1"),  # as a person types it
        (Decimal("0.100000"), "0.1"),  # as NUMERIC(18,6) gives it back
        ("007.50", "7.5"),
        (100, "100"),  # not 1E+2
        (Decimal("1E+2"), "100"),
        ("-12.345678", "-12.345678"),  # a reversal
        ("-0", "0"),  # zero has no sign
        (Decimal("0E-30"), "0"),
        ("999999999999.999999", "999999999999.999999"),  # all that NUMERIC(18,6) holds
        (Decimal("0.1" + "0" * 80), "0.1"),
    ],
)
def test_reads_an_amount_without_trailing_zeros(written: object, amount: str) -> None:
    """Every way to write an amount becomes the same canonical Decimal."""
    assert str(to_money(written, field="price")) == amount


NO_AMOUNTS: tuple[object, ...] = (
    0.1, 1.0, True, False, None, b"1", [],
    Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), "NaN", "inf",
    "", " 1", "1\n", "+1", "1_000", "1,000", ".5", "5.", "1e2", "0x10", "1" * 1000,
    "\u0661\u0662", "\uff11",  # Arabic-Indic and fullwidth digits, which int() and Decimal() take
    "0.0000001", Decimal("1e-999999"), 10**12, 10**100, Decimal("1e999999"),
)  # fmt: skip


@pytest.mark.parametrize("written", NO_AMOUNTS)
def test_refuses_what_is_not_an_exact_amount(written: object) -> None:
    """Floats, bools, other types, other notations and amounts that a column would round name the field."""
    with pytest.raises(BillingError) as refused:
        to_money(written, field="price")
    assert (refused.value.field, refused.value.code, refused.value.status) == ("price", "billing_value_invalid", 400)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("22", "22"),  # ElevenLabs
        ("007", "7"),
        ("20.448", "20.448"),
        ("-3", "-3"),
        ("2.2e1", "22"),  # JSON allows it
        ("2E-1", "0.2"),
        ("1e999999", "1e999999"),  # kept unexpanded
        ("0e999999", "0"),
        ("-0", "0"),
    ],
)
def test_parses_a_number_as_providers_write_it(text: str, number: str) -> None:
    """JSON's grammar is read exactly, and every zero is the same zero."""
    parsed = parse_number(text)
    assert parsed is not None
    assert parsed.as_tuple() == Decimal(number).as_tuple()


NO_NUMBERS = (
    "", " ", "NaN", "Infinity", "-inf", "+1", "1_0", " 1", "1 ", "1\n", ".5", "5.", "1e", "--1", "0x1", "1,5", "12s",
    "\u0663", "1e9999999", "1e99999999999999999999", "1" * 65,
)  # fmt: skip


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_does_not_parse_what_only_looks_like_a_number(text: str) -> None:
    """Spellings that int(), float() or Decimal() would take are no numbers here."""
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("currency", "exponent"),
    [("USD", 2), ("EUR", 2), ("JPY", 0), ("UGX", 0), ("KWD", 3), ("TND", 3), ("CLF", 4), ("UYW", 4), ("XCG", 2)],
)
def test_knows_the_minor_unit_of_a_currency(currency: str, exponent: int) -> None:
    """Exponents are ISO 4217's."""
    assert minor_unit(currency) == exponent


def test_holds_every_payable_code_of_iso_4217_once() -> None:
    """List one of 2026-01-01 has 178 codes, 13 of them without a minor unit."""
    assert Counter(MINOR_UNITS.values()) == {2: 139, 0: 17, 3: 7, 4: 2}
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in MINOR_UNITS)


@pytest.mark.parametrize("currency", ["usd", "US", "USDT", "", "XXX", "XAU", "HRK", "BGN", "ANG", None, 840, ["USD"]])
def test_refuses_an_unknown_currency(currency: object) -> None:
    """Lower case, withdrawn codes and codes without a minor unit are refused by the field's name."""
    with pytest.raises(BillingError) as refused:
        minor_unit(currency, field="billing_currency")
    assert refused.value.field == "billing_currency"


@pytest.mark.parametrize(
    ("rounding", "tie", "negative_tie", "below", "above"),
    [
        #             2.5   -2.5  2.4  2.6
        ("half_up", "3", "-3", "2", "3"),
        ("half_even", "2", "-2", "2", "3"),
        ("half_down", "2", "-2", "2", "3"),
        ("up", "3", "-3", "3", "3"),
        ("down", "2", "-2", "2", "2"),
    ],
)
def test_rounds_by_name(rounding: str, tie: str, negative_tie: str, below: str, above: str) -> None:
    """Each mode rounds an amount and its reversal alike."""
    rounded = [str(round_money(Decimal(n), decimals=0, rounding=rounding)) for n in ("2.5", "-2.5", "2.4", "2.6")]
    assert rounded == [tie, negative_tie, below, above]


@pytest.mark.parametrize(("decimals", "rounding"), [(7, "half_up"), (-1, "half_up"), (2, "bankers")])
def test_rounds_by_nothing_else(decimals: int, rounding: str) -> None:
    """Decimals outside 0..6 and unknown modes are an error, not a guess."""
    with pytest.raises(KeyError):
        round_money(Decimal(1), decimals=decimals, rounding=rounding)


@pytest.mark.parametrize(
    ("amount", "decimals", "text"),
    [
        ("0.16", 6, "0.160000"),
        ("0", 6, "0.000000"),  # not 0E-6
        ("1E+3", 2, "1000.00"),
        ("0.000001", 6, "0.000001"),
        ("2.5", 0, "3"),  # half up
        ("-0.0000001", 6, "0.000000"),  # not -0.000000
    ],
)
def test_rounded_money_has_its_decimals(amount: str, decimals: int, text: str) -> None:
    """All of them, and no sign on a zero."""
    assert str(round_money(Decimal(amount), decimals=decimals)) == text


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("0.1", "USD", "0.10"),
        ("0.0125", "USD", "0.0125"),
        ("100", "USD", "100.00"),
        ("15", "JPY", "15"),
        ("1E+2", "JPY", "100"),
        ("0.25", "KWD", "0.250"),
        ("0.000001", "USD", "0.000001"),
    ],
)
def test_writes_a_price_with_all_of_its_decimals(amount: str, currency: str, text: str) -> None:
    """A price is never rounded, and never shorter than its currency is paid in."""
    assert format_price(Decimal(amount), currency) == text


def test_ignores_the_ambient_decimal_context() -> None:
    """Another library's precision, rounding and traps change nothing."""
    hostile = decimal.Context(prec=1, rounding=decimal.ROUND_UP, traps=[decimal.Inexact, decimal.Rounded])
    with decimal.localcontext(hostile):
        assert str(to_money("123456.654321", field="price")) == "123456.654321"
        assert str(parse_number("86399.999")) == "86399.999"
        assert str(round_money(Decimal("1234.5678905"))) == "1234.567891"
        assert format_price(Decimal("1234.5600"), "USD") == "1234.56"
