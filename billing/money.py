"""Money as exact decimals: parsing, currencies, rounding, writing. Pure; no float gets in and none comes out.

Nothing here reads the ambient decimal context: a library that changes it in its thread cannot change a bill.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import (
    ROUND_DOWN,
    ROUND_HALF_DOWN,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    ROUND_UP,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
)
from types import MappingProxyType
from typing import Final

from relay.errors import BadRequest

# The columns that hold money are NUMERIC(18,6): what does not fit them exactly would be rounded without a word.
MAX_DECIMALS: Final = 6
_MAX_WHOLE_DIGITS: Final = 12

# 50 digits hold every product of a price and a duration exactly, and a quotient by 60 so closely that it can never
# be mistaken for a tie when it is rounded: rounding twice gives what rounding once would.
ARITHMETIC: Final = Context(prec=50, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])

ZERO: Final = Decimal(0)
_QUANTA: Final = {decimals: Decimal((0, (1,), -decimals)) for decimals in range(MAX_DECIMALS + 1)}

# Names as rate cards write them. "up" is away from zero and "down" towards it, so a reversal mirrors its charge.
ROUNDINGS: Final[Mapping[str, str]] = MappingProxyType({
    "half_up": ROUND_HALF_UP,
    "half_even": ROUND_HALF_EVEN,
    "half_down": ROUND_HALF_DOWN,
    "up": ROUND_UP,
    "down": ROUND_DOWN,
})  # fmt: skip

# ISO 4217 list one as published on 2026-01-01, by minor unit. Codes without one (metals, XDR, XTS, XXX) cannot be paid.
_CODES_BY_MINOR_UNIT: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """
        AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF
        CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD
        GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL
        MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR
        PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP
        TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG
    """,
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
MINOR_UNITS: Final[Mapping[str, int]] = MappingProxyType(
    {code: exponent for exponent, codes in _CODES_BY_MINOR_UNIT.items() for code in codes.split()}
)

_PLAIN_AMOUNT: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
# RFC 8259's number, leading zeros allowed. `[0-9]`, because `\d`, int() and Decimal() take digits of every script.
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,6})?")
_MAX_NUMBER_CHARS: Final = 64
# Six decimals of a price and two of a sixtieth: an amount with more than that goes on for ever, such as 0.10 / 60.
_SHOWN_DECIMALS: Final = 8


class BillingError(BadRequest):
    """A value that nothing can be charged by; the field that is wrong is named."""

    code = "billing_value_invalid"


def to_money(value: object, *, field: str) -> Decimal:
    """An amount from a Decimal, an int or plain text (`-12.50`), without trailing zeros.

    Raises BillingError naming `field` for float, bool and every other type, for NaN and infinities, for text in any
    other form (exponents, `+`, `_`, spaces, digits of other scripts), and for what NUMERIC(18,6) cannot hold exactly.
    """
    amount = _read(value, field)
    if not amount.is_finite():
        raise BillingError(f"{field} must be a finite amount", field=field)
    if not amount:
        return ZERO
    if amount.adjusted() >= _MAX_WHOLE_DIGITS:
        raise BillingError(f"{field} has more than {_MAX_WHOLE_DIGITS} digits before the point", field=field)
    if amount != amount.quantize(_QUANTA[MAX_DECIMALS], ROUND_DOWN, ARITHMETIC):
        raise BillingError(f"{field} has more than {MAX_DECIMALS} decimals", field=field)
    if amount == amount.to_integral_value(ROUND_DOWN, ARITHMETIC):
        return amount.quantize(_QUANTA[0], ROUND_DOWN, ARITHMETIC)  # normalize would write 100 as 1E+2
    return amount.normalize(ARITHMETIC)


def parse_number(text: str) -> Decimal | None:
    """A number as a provider wrote it (JSON's grammar), exactly; None when it is not one.

    Exponents have at most six digits and are never expanded here: compare the result before computing with it.
    """
    if len(text) > _MAX_NUMBER_CHARS or not _NUMBER.fullmatch(text):
        return None
    return Decimal(text) or ZERO


def minor_unit(currency: object, *, field: str = "currency") -> int:
    """How many decimals a currency is paid in: USD 2, JPY 0, KWD 3 (ISO 4217).

    Raises BillingError naming `field` for anything that is not an active code in capitals.
    """
    exponent = MINOR_UNITS.get(currency) if isinstance(currency, str) else None
    if exponent is None:
        raise BillingError(f"{field} must be an active ISO 4217 code in capitals, such as USD", field=field)
    return exponent


def round_money(amount: Decimal, *, decimals: int = MAX_DECIMALS, rounding: str = "half_up") -> Decimal:
    """Round an amount below 10**40 to 0..6 decimals by one of ROUNDINGS; KeyError for others. Zero has no sign."""
    rounded = amount.quantize(_QUANTA[decimals], ROUNDINGS[rounding], ARITHMETIC)
    return rounded or rounded.copy_abs()


def summed(amounts: Iterable[Decimal]) -> Decimal:
    """Their exact sum."""
    whole = ZERO
    for amount in amounts:
        whole = ARITHMETIC.add(whole, amount)
    return whole


def format_price(amount: Decimal, currency: str) -> str:
    """Write a price with all of its decimals, at least as many as its currency is paid in: `0.10`, `0.0125`, `15`."""
    whole, _, fraction = format(amount.normalize(ARITHMETIC), "f").partition(".")
    fraction = fraction.ljust(minor_unit(currency), "0")
    return f"{whole}.{fraction}" if fraction else whole


def shown(amount: Decimal) -> str:
    """An amount in a sentence: without an exponent, and cut short visibly where it goes on: `0.00166666...`."""
    text = format(amount, "f")
    point = text.find(".")
    if 0 <= point < len(text) - _SHOWN_DECIMALS - 1:
        return text[: point + _SHOWN_DECIMALS + 1] + "..."
    return text


def _read(value: object, field: str) -> Decimal:
    match value:
        case bool() | float():
            pass
        case Decimal():
            return value
        case int():
            return Decimal(value)
        case str() if len(value) <= _MAX_NUMBER_CHARS and _PLAIN_AMOUNT.fullmatch(value):
            return Decimal(value)
        case str():
            raise BillingError(f"{field} must be a plain decimal such as 0.10", field=field)
    raise BillingError(f"{field} must be a decimal, an integer or text, not {type(value).__name__}", field=field)
