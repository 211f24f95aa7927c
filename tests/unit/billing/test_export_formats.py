"""Rows of the ledger in the words of Stripe, Lago and OpenMeter, and what their answers mean."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from billing.exports import lago, openmeter, stripe
from billing.exports.row import counted_at, identifier, millionths, minor_units, paid_seconds
from billing.exports.verdict import by_status
from relay.store.charges import Charge
from tests.fakes.openmeter import REQUIRED

DECEMBER = date(2026, 12, 1)
STARTED = datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)
CHARGED = Charge(
    id=1,
    account_id="acc_6zypow4u7uzcgzocuucyckldte",
    provider="retell",
    conversation_id="call_1",
    kind="charge",
    sequence=1,
    session_id=4503599627370497,
    template_id=7,
    rate_card_id="rc_1",
    started_at=STARTED,
    duration_seconds=90.5,
    billed_seconds=91,
    unit_price=Decimal("0.10"),
    exact=Decimal("0.1516666666"),
    amount=Decimal("0.151667"),
    currency="USD",
    steps=["91 s x 0.10 USD"],
    created_at=STARTED + timedelta(minutes=2),
    line="usage",
    part=0,
    quantity=Decimal("1.51666666666666666667"),
    list_amount=None,
    reason=None,
    tag="gold",
    reference=None,
    period=date(2026, 11, 1),
    provider_cost_usd=Decimal("0.07"),
)
KEY = "acc_6zypow4u7uzcgzocuucyckldte/retell/call_1/charge/1"


def row(**more: Any) -> Charge:
    """CHARGED with other fields."""
    return msgspec.structs.replace(CHARGED, **more)


REVERSED = row(
    kind="reversal",
    billed_seconds=-91,
    amount=Decimal("-0.151667"),
    quantity=Decimal("-1.51666666666666666667"),
    steps=["reverses charge 1: its duration changed"],
)
WAIVED = row(amount=Decimal("0.000000"), list_amount=Decimal("0.151667"), reason="own_provider_key")
FEE = row(sequence=2, part=1, line="connect_fee", amount=Decimal("0.020000"))
CREDIT = row(
    provider="switchhook",
    conversation_id="CN-2026-0001",
    kind="adjustment",
    line="credit_note",
    session_id=None,
    template_id=None,
    tag=None,
    billed_seconds=0,
    amount=Decimal("-1.500000"),
    period=DECEMBER,
    reference="S-2026-0001",
    created_at=datetime(2026, 12, 4, 9, tzinfo=UTC),
)


@pytest.mark.parametrize(
    ("charge", "expected"),
    [
        (CHARGED, KEY),
        (REVERSED, KEY.replace("charge", "reversal")),
        # 100 characters are Stripe's limit.
        (row(conversation_id="c" * 53), KEY.replace("call_1", "c" * 53)),
        (row(conversation_id="c" * 54), "sha256:9e4f"),
        # Stripe counts characters, others may count bytes.
        (row(conversation_id="grüße"), "sha256:"),
    ],
)
def test_an_identifier_is_the_ledgers_key_or_its_digest(charge: Charge, expected: str) -> None:
    """At most 100 characters of ASCII, and always the same."""
    named = identifier(charge)
    assert len(named) <= 100
    assert named.isascii()
    if expected.startswith("sha256:"):
        assert named.startswith("sha256:")
        assert len(named) == 71
    else:
        assert named == expected
    assert named == identifier(charge)


def test_identifiers_of_different_rows_differ() -> None:
    """Also where they are digests."""
    long = "c" * 200
    rows = [CHARGED, REVERSED, FEE, CREDIT, row(conversation_id=long), row(conversation_id=long, sequence=2)]
    assert len({identifier(one) for one in rows}) == len(rows)


@pytest.mark.parametrize(
    ("charge", "expected"),
    [
        # Usage counts when the call began.
        (CHARGED, STARTED),
        (REVERSED, STARTED),
        # A correction of a closed month counts when it was written.
        (row(period=DECEMBER, created_at=datetime(2026, 12, 9, tzinfo=UTC)), datetime(2026, 12, 9, tzinfo=UTC)),
        (CREDIT, CREDIT.created_at),
        # Never outside of the month of its statement: a month's price is written after its end,
        (
            row(kind="adjustment", created_at=datetime(2026, 12, 4, tzinfo=UTC)),
            datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC),
        ),
        # and a correction may be written before the month begins in which it counts.
        (row(period=date(2027, 1, 1), created_at=datetime(2026, 12, 31, tzinfo=UTC)), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_a_row_counts_in_the_month_of_its_statement(charge: Charge, expected: datetime) -> None:
    """At a moment that never changes."""
    assert counted_at(charge) == expected


@pytest.mark.parametrize(
    ("charge", "seconds", "micros", "cents"),
    [
        (CHARGED, 91, 151_667, "15.1667"),
        (REVERSED, -91, -151_667, "-15.1667"),
        # What is paid by somebody else is no usage to bill.
        (WAIVED, 0, 0, "0"),
        # The seconds stand on every row of a charge, and are told once.
        (FEE, 0, 20_000, "2"),
        (CREDIT, 0, -1_500_000, "-150"),
        # Yen have no smaller unit, dinars have thousandths.
        (row(currency="JPY", amount=Decimal("15.5")), 91, 15_500_000, "15.5"),
        (row(currency="KWD", amount=Decimal("0.0015")), 91, 1_500, "1.5"),
    ],
)
def test_values_are_exact_and_signed(charge: Charge, seconds: int, micros: int, cents: str) -> None:
    """In whole numbers, or in text."""
    assert (paid_seconds(charge), millionths(charge), minor_units(charge)) == (seconds, micros, cents)


# Stripe


@pytest.mark.parametrize(("charge", "seconds", "micros"), [(CHARGED, "91", "151667"), (REVERSED, "-91", "-151667")])
def test_stripe_gets_a_form_for_each_row(charge: Charge, seconds: str, micros: str) -> None:
    """With whole numbers for a meter of seconds and for one of money."""
    assert stripe.event(charge, customer="cus_1", event_name="call_seconds") == {
        "event_name": "call_seconds",
        "identifier": identifier(charge),
        "timestamp": "1795176000",
        "payload[stripe_customer_id]": "cus_1",
        "payload[value]": seconds,
        "payload[amount_micros]": micros,
        "payload[currency]": "USD",
        "payload[line]": "usage",
    }


def test_stripe_gets_no_row_that_adds_nothing() -> None:
    """A fee adds money, and a credit takes some away."""
    assert [stripe.adds_nothing(one) for one in (WAIVED, CHARGED, FEE, CREDIT)] == [True, False, False, False]


@pytest.mark.parametrize(("days", "is_too_old"), [(34, False), (35, True)])
def test_stripe_takes_35_days(days: int, is_too_old: bool) -> None:
    """What is older would be refused."""
    assert stripe.is_too_old(CHARGED, STARTED + timedelta(days=days)) is is_too_old


@pytest.mark.parametrize(
    ("status", "message", "verdict"),
    [
        (200, "", "taken"),
        (400, "An event already exists with identifier acc_1/x.", "repeated"),
        (400, "No such customer: 'cus_1'", "refused"),
        (401, "Invalid API Key provided", "misdirected"),
        (404, "Unrecognized request URL", "misdirected"),
        (409, "There is currently another in-progress request", "again"),
        (429, "Too many requests", "again"),
        (500, "An event already exists with identifier", "again"),
        (503, "", "again"),
        (301, "", "misdirected"),
    ],
)
def test_stripes_answers_mean(status: int, message: str, verdict: str) -> None:
    """An identifier that it knows is as good as taken."""
    body = json.dumps({"error": {"type": "invalid_request_error", "message": message}}).encode()
    assert stripe.verdict(status, body) == verdict


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error":"x"}', b"\xff", b"[" * 100_000])
def test_an_answer_that_makes_no_sense_is_told_by_its_status(body: bytes) -> None:
    """Whatever stands between."""
    assert stripe.verdict(400, body) == "refused"
    assert lago.verdicts(422, body, 1) == ["refused"]


# Lago


def test_lago_gets_events_with_the_exact_amount() -> None:
    """Every property is text or a whole number, and what a row does not have is left out."""
    assert lago.event(CHARGED, customer="sub_1", code="calls") == {
        "transaction_id": KEY,
        "external_subscription_id": "sub_1",
        "code": "calls",
        "timestamp": "1795176000.250",
        "precise_total_amount_cents": "15.1667",
        "properties": {
            "billed_seconds": 91,
            "amount": "0.151667",
            "currency": "USD",
            "kind": "charge",
            "line": "usage",
            "quantity": "1.51666666666666666667",
            "unit_price": "0.10",
            "provider": "retell",
            "session_id": "4503599627370497",
            "template_id": "7",
            "tag": "gold",
            "period": "2026-11",
        },
    }


def test_lago_gets_reversals_and_credits_as_negative_amounts() -> None:
    """Under identifiers of their own."""
    taken_back = lago.event(REVERSED, customer="sub_1", code="calls")
    assert taken_back["transaction_id"] == KEY.replace("charge", "reversal")
    assert (taken_back["properties"]["billed_seconds"], taken_back["properties"]["amount"]) == (-91, "-0.151667")
    credit = lago.event(CREDIT, customer="sub_1", code="calls")
    assert credit["precise_total_amount_cents"] == "-150"
    assert (
        credit["properties"].items() >= {"line": "credit_note", "reference": "S-2026-0001", "period": "2026-12"}.items()
    )


def test_what_is_waived_says_why_and_what_it_would_have_cost() -> None:
    """With nothing to pay."""
    told = lago.event(WAIVED, customer="sub_1", code="calls")["properties"]
    assert told.items() >= {"billed_seconds": 0, "amount": "0.000000", "reason": "own_provider_key"}.items()
    assert told["list_amount"] == "0.151667"


_REPEATED = {"transaction_id": ["value_already_exist"]}


@pytest.mark.parametrize(
    ("status", "details", "verdicts"),
    [
        (200, {}, ["taken", "taken", "taken"]),
        # Those that are named are decided, the others can go again.
        (422, {"1": _REPEATED}, ["again", "repeated", "again"]),
        (422, {"0": _REPEATED, "2": {"code": ["value_is_mandatory"]}}, ["repeated", "again", "refused"]),
        (422, {"0": _REPEATED | {"code": ["value_is_mandatory"]}}, ["refused", "again", "again"]),
        # Nothing says which one is wrong.
        (422, {"7": _REPEATED}, ["apart", "apart", "apart"]),
        (400, {}, ["apart", "apart", "apart"]),
        (429, {}, ["again", "again", "again"]),
        (401, {}, ["misdirected", "misdirected", "misdirected"]),
    ],
)
def test_lagos_answers_mean(status: int, details: dict[str, Any], verdicts: list[str]) -> None:
    """For each event of the batch."""
    assert lago.verdicts(status, json.dumps({"error_details": details}).encode(), 3) == verdicts


# OpenMeter


def test_openmeter_gets_cloudevents() -> None:
    """With the attributes that CloudEvents 1.0 requires, each non-empty text, and JSON as their data."""
    event = openmeter.event(CHARGED, customer="customer-1", event_type="switchhook.charge")
    assert all(isinstance(event[name], str) and event[name] for name in REQUIRED)
    assert (event["specversion"], event["id"], event["source"]) == ("1.0", KEY, "switchhook")
    assert (event["type"], event["subject"]) == ("switchhook.charge", "customer-1")
    assert event["time"] == "2026-11-20T12:00:00.250Z"
    assert event["data"] == lago.event(CHARGED, customer="-", code="-")["properties"]


def test_openmeter_gets_reversals_as_negative_values() -> None:
    """So that a meter's sum is the ledger's."""
    rows = [CHARGED, REVERSED, FEE, CREDIT]
    told = [openmeter.event(one, customer="c", event_type="t")["data"] for one in rows]
    assert sum(one["billed_seconds"] for one in told) == 0
    assert sum(Decimal(one["amount"]) for one in told) == sum(one.amount for one in rows)


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((200, 201, 202, 204), "taken"),
        ((400, 402, 410, 413, 422), "refused"),
        ((302, 401, 403, 404, 405), "misdirected"),
        ((408, 409, 423, 425, 429, 500, 502, 503, 504), "again"),
    ],
)
def test_what_a_status_means_by_itself(statuses: tuple[int, ...], verdict: str) -> None:
    """Only what will never be taken is given up."""
    assert {by_status(status) for status in statuses} == {verdict}
