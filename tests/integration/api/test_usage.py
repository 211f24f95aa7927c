"""Usage over HTTP: any range, zone and grouping, as JSON and as CSV, and of nobody else."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from werkzeug.test import TestResponse

from billing import reports
from billing.reports import Dimension, Filters
from billing.reports.days import cut
from billing.reports.ranges import read
from tests.integration.api.conftest import Api
from tests.integration.api.used import a_template, called, priced

FOCUS = [
    "ChargePeriodStart", "ChargePeriodEnd", "ConsumedQuantity", "PricingQuantity", "PricingUnit", "ListUnitPrice",
    "ListCost", "BilledCost", "BillingCurrency", "ChargeClass", "ResourceId", "Tags",
]  # fmt: skip


def at(moment: str) -> datetime:
    """A moment in UTC, unless it says otherwise."""
    told = datetime.fromisoformat(moment)
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def asked(api: Api, path: str = "/api/v1/usage", /, **query: Any) -> TestResponse:
    """A report; `from_` is `from`."""
    return api.get(path, query_string={name.rstrip("_"): value for name, value in query.items()})


def report(api: Api, **query: Any) -> dict[str, Any]:
    """Its JSON."""
    answer = asked(api, **query)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    found: dict[str, Any] = answer.get_json()
    return found


def sheet(answer: TestResponse) -> list[dict[str, str]]:
    """The rows of a CSV."""
    assert answer.status_code == 200, answer.get_data(as_text=True)
    assert answer.content_type == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline="")))


def test_shows_sessions_seconds_and_money_by_day(api: Api) -> None:
    """Beside them those that could not be rated, and of which moment all of it is."""
    priced(api.database, api.account.id)
    called(api.database, api.account.id, at("2026-03-02T10:07"), seconds="61")
    called(api.database, api.account.id, at("2026-03-02T23:59:59"), seconds="62")
    called(api.database, api.account.id, at("2026-03-02T12:00"), seconds=None)
    called(api.database, api.account.id, at("2026-03-04T00:00"), seconds="60")
    before = datetime.now(UTC)
    shown = report(api, from_="2026-03-02", to="2026-03-05")
    assert [one["day"] for one in shown["data"]] == ["2026-03-02", "2026-03-03", "2026-03-04"]
    assert shown["data"][0] == {
        "from": "2026-03-02T00:00:00.000Z", "to": "2026-03-03T00:00:00.000Z", "day": "2026-03-02", "month": None,
        "tag": None, "template": None, "provider": None, "status": None, "sessions": 3, "unrated": 1,
        "durationSeconds": 123.0, "billedSeconds": 123, "billedMinutes": "2.05", "amount": "0.205",
        "listAmount": "0.205", "currency": "USD",
    }  # fmt: skip
    assert (shown["data"][1]["sessions"], shown["data"][1]["amount"]) == (0, "0.00")
    assert (shown["totals"]["sessions"], shown["totals"]["unrated"], shown["totals"]["amount"]) == (4, 1, "0.305")
    assert before - timedelta(seconds=1) <= datetime.fromisoformat(shown["as_of"]) <= datetime.now(UTC)
    assert (shown["tz"], shown["groupBy"], shown["nextCursor"]) == ("UTC", ["day"], None)


# Clocks change; Lord Howe's by half an hour; Kathmandu's days begin at 18:15 UTC.
DAYS = [
    ("Europe/Berlin", "2026-03-29", 23, "2026-03-28T23:00:00.000Z"),
    ("Europe/Berlin", "2026-10-25", 25, "2026-10-24T22:00:00.000Z"),
    ("America/New_York", "2026-03-08", 23, "2026-03-08T05:00:00.000Z"),
    ("America/New_York", "2026-11-01", 25, "2026-11-01T04:00:00.000Z"),
    ("Australia/Lord_Howe", "2026-10-04", 23.5, "2026-10-03T13:30:00.000Z"),
    ("Australia/Lord_Howe", "2026-04-05", 24.5, "2026-04-04T13:00:00.000Z"),
    ("Asia/Kathmandu", "2026-04-05", 24, "2026-04-04T18:15:00.000Z"),
]


@pytest.mark.parametrize(("tz", "day", "hours", "begins"), DAYS)
def test_a_day_is_a_day_in_its_zone(api: Api, tz: str, day: str, hours: float, begins: str) -> None:
    """A call in each of its quarter-hours is in it, and none of those before and behind."""
    first = datetime.fromisoformat(begins)
    priced(api.database, api.account.id)
    quarters = int(hours * 4)
    for number in (-1, 0, 1, quarters - 1, quarters):
        called(api.database, api.account.id, first + timedelta(minutes=15 * number))
    following = (date.fromisoformat(day) + timedelta(days=1)).isoformat()
    shown = report(api, from_=day, to=following, tz=tz)
    assert [(one["day"], one["from"], one["sessions"]) for one in shown["data"]] == [(day, begins, 3)]
    (shown_day,) = shown["data"]
    assert datetime.fromisoformat(shown_day["to"]) - first == timedelta(hours=hours)
    around = report(api, from_=(first - timedelta(hours=1)).isoformat(), to=shown_day["to"], tz=tz)
    assert [one["sessions"] for one in around["data"]] == [1, 3]


def test_groups_by_several_at_once(api: Api) -> None:
    """In the order of their keys; only groups that have sessions."""
    account, database = api.account.id, api.database
    priced(database, account)
    template = a_template(database, account, tag="sales")
    called(database, account, at("2026-03-02T10:00"), template_id=template)
    called(database, account, at("2026-03-02T11:00"), provider="elevenlabs")
    called(database, account, at("2026-04-02T11:00"), provider="elevenlabs", tag="ops")
    by = "month,tag,template,provider,status"
    rows = report(api, from_="2026-03-01", to="2026-05-01", group_by=by)["data"]
    assert [(one["month"], one["tag"], one["template"], one["provider"], one["status"]) for one in rows] == [
        ("2026-03", None, None, "elevenlabs", "completed"),
        ("2026-03", "sales", template, "retell", "completed"),
        ("2026-04", "ops", None, "elevenlabs", "completed"),
    ]
    both = report(api, from_="2026-03-01", to="2026-03-03", group_by="month,day")["data"]
    assert [(one["month"], one["day"], one["sessions"]) for one in both] == [
        ("2026-03", "2026-03-01", 0),
        ("2026-03", "2026-03-02", 2),
    ]


FILTERS = [
    ({"tag": "sales"}, 2),
    ({"tag": ""}, 2),
    ({"provider": "elevenlabs"}, 1),
    ({"status": "failed"}, 1),
    ({"tag": "sales", "status": "completed"}, 1),
    ({"template": 987_654_321}, 0),
]


@pytest.mark.parametrize(("filters", "sessions"), FILTERS, ids=str)
def test_filters_count_only_what_they_name(api: Api, filters: dict[str, Any], sessions: int) -> None:
    """Each alone, and together."""
    account, database = api.account.id, api.database
    priced(database, account)
    called(database, account, at("2026-03-02T10:00"), tag="sales")
    called(database, account, at("2026-03-02T10:00"), tag="sales", status="failed", seconds="9")
    called(database, account, at("2026-03-02T10:00"))
    called(database, account, at("2026-03-02T10:00"), provider="elevenlabs")
    shown = report(api, from_="2026-03-01", to="2026-04-01", group_by="month", **filters)
    assert [one["sessions"] for one in shown["data"]] == [sessions]
    assert shown["totals"]["sessions"] == sessions


def test_one_session_is_counted_as_in_the_sums(api: Api) -> None:
    """Whatever became of it: charged, unrated, on the customer's own key; test traffic is in neither."""
    account, database = api.account.id, api.database
    priced(database, account)
    ids = [
        called(database, account, at("2026-03-02T10:07"), seconds="61"),
        called(database, account, at("2026-03-02T10:08"), seconds=None),
        called(database, account, at("2026-03-02T10:09"), own_key=True),
        called(database, account, at("2026-03-02T10:10"), status="failed", seconds=None, code="unreachable"),
        called(database, account, at("2026-03-02T10:10"), livemode=False),
    ]
    query = {"from_": "2026-03-02", "to": "2026-03-03", "group_by": "provider"}
    each = [report(api, session=one, **query)["totals"] for one in ids]
    whole = report(api, **query)["totals"]
    assert [one["sessions"] for one in each] == [1, 1, 1, 1, 0]
    assert (whole["sessions"], whole["unrated"], whole["amount"], whole["listAmount"]) == (
        4, 1, "0.101667", "0.201667",
    )  # fmt: skip
    for name in ("unrated", "durationSeconds", "billedSeconds"):
        assert sum(one[name] for one in each) == whole[name], name
    for name in ("amount", "listAmount"):
        assert sum(Decimal(one[name]) for one in each) == Decimal(whole[name]), name


def test_another_accounts_usage_is_never_seen(api: Api) -> None:
    """Neither in sums nor by the number of its session, its template or its tag."""
    other, database = api.other.id, api.database
    priced(database, other)
    template = a_template(database, other, tag="secret")
    session = called(database, other, at("2026-03-02T10:00"), template_id=template)
    for more in ({}, {"session": session}, {"template": template}, {"tag": "secret"}):
        shown = report(api, from_="2026-03-02", to="2026-03-03", group_by="tag", **more)
        assert (shown["data"], shown["totals"]["sessions"], shown["totals"]["currency"]) == ([], 0, None)
    assert asked(api, "/api/v1/charges").get_json()["data"] == []
    assert asked(api, "/api/v1/charges", session=session).get_json()["data"] == []


@pytest.mark.parametrize("by", ["day", "day,tag,provider"])
def test_cursors_lead_through_every_group_once(api: Api, by: str) -> None:
    """In order, with the same totals on each page."""
    account, database = api.account.id, api.database
    priced(database, account)
    for number in range(7):
        moment = at("2026-03-01T10:00") + timedelta(days=number // 2)
        called(database, account, moment, tag=f"t{number % 3}", provider=("retell", "elevenlabs")[number % 2])
    query = {"from_": "2026-03-01", "to": "2026-03-09", "group_by": by}
    whole = report(api, **query)
    pages, cursor = [], None
    while True:
        page = report(api, limit=2, **query, **({} if cursor is None else {"cursor": cursor}))
        pages.append(page["data"])
        assert page["totals"] == whole["totals"]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert [one for page in pages for one in page] == whole["data"]
    assert [len(page) for page in pages[:-1]] == [2] * (len(pages) - 1)
    assert len(pages) > 2


WRONG = [
    ({"tz": "Mars/Olympus"}, "tz", "time_zone_unknown"),
    ({"tz": "../../etc/passwd"}, "tz", "time_zone_unknown"),
    ({"tz": "localtime"}, "tz", "time_zone_unknown"),
    ({"tz": ""}, "tz", "time_zone_unknown"),
    ({"from_": "2026-03-02", "to": "2026-03-02"}, "to", "range_empty"),
    ({"from_": "2026-03-02", "to": "2026-03-01"}, "to", "range_empty"),
    ({"from_": "2999-01-01"}, "from", "moment_invalid"),
    ({"from_": "0001-01-01", "tz": "Asia/Kathmandu"}, "from", "moment_invalid"),
    ({"from_": "2026-02-30"}, "from", "moment_invalid"),
    ({"to": "soon"}, "to", "moment_invalid"),
    ({"from_": "2026-03-02T10:00:00"}, "from", "moment_without_offset"),
    ({"from_": "2026-03-02T10:07:00Z"}, "from", "moment_off_quarter"),
    ({"from_": "2025-01-01", "to": "2026-02-06"}, "to", "range_too_long"),
    ({"from_": "2001-01-01", "to": "2199-01-01", "group_by": "month"}, "to", "range_too_long"),
    ({"group_by": "colour"}, "group_by", "group_by_unknown"),
    ({"group_by": "model"}, "group_by", "group_by_unknown"),
    ({"group_by": ""}, "group_by", "group_by_unknown"),
    ({"cursor": "%%%"}, "cursor", "cursor_invalid"),
    ({"status": "asleep"}, "status", "validation_error"),
    ({"limit": "0"}, "limit", "validation_error"),
    ({"format": "xml"}, "format", "validation_error"),
    ({"session": "x"}, "session", "validation_error"),
]


@pytest.mark.parametrize(("query", "field", "code"), WRONG, ids=str)
def test_what_makes_no_sense_is_refused_by_its_name(api: Api, query: dict[str, str], field: str, code: str) -> None:
    """With a stable code."""
    answer = asked(api, **query)
    assert (answer.status_code, answer.get_json()["field"], answer.get_json()["code"]) == (400, field, code)


def test_four_hundred_days_are_taken(api: Api) -> None:
    """One more is not; grouped by something else than days, any range is."""
    assert len(report(api, from_="2025-01-01", to="2026-02-05")["data"]) == 400
    assert report(api, from_="2001-01-01", to="2199-01-01", group_by="provider")["data"] == []


@pytest.mark.usefixtures("day_that_goes_on")
def test_without_a_range_it_is_this_month_up_to_today(api: Api) -> None:
    """In the zone that is asked for."""
    shown = report(api, tz="UTC")
    today = datetime.now(UTC).date()
    assert [one["day"] for one in shown["data"]] == [
        (today.replace(day=1) + timedelta(days=number)).isoformat() for number in range(today.day)
    ]


# CSV


def test_csv_has_focus_columns(api: Api) -> None:
    """The same sums; ends of periods are not part of them."""
    account, database = api.account.id, api.database
    priced(database, account)
    called(database, account, at("2026-03-02T10:00"), seconds="91", tag='a,"b"', provider="elevenlabs")
    called(database, account, at("2026-03-02T10:00"), seconds=None, tag='a,"b"', provider="elevenlabs")
    answer = asked(api, from_="2026-03-02", to="2026-03-03", tz="Europe/Berlin", group_by="day,tag", format="csv")
    (row,) = sheet(answer)
    assert list(row)[: len(FOCUS)] == FOCUS
    assert answer.get_data(as_text=True).count("\r\n") == 2
    assert row == {
        "ChargePeriodStart": "2026-03-01T23:00:00Z", "ChargePeriodEnd": "2026-03-02T23:00:00Z",
        "ConsumedQuantity": "91", "ConsumedUnit": "Seconds", "PricingQuantity": "1.516667", "PricingUnit": "Minutes",
        "ListUnitPrice": "", "ListCost": "0.151667", "BilledCost": "0.151667", "BillingCurrency": "USD",
        "ChargeClass": "", "ResourceId": "", "Tags": '{"tag":"a,\\"b\\""}', "x_Sessions": "2",
        "x_UnratedSessions": "1",
    }  # fmt: skip
    assert json.loads(row["Tags"]) == {"tag": 'a,"b"'}


@pytest.mark.parametrize(
    ("accept", "query", "content_type"),
    [
        ("text/csv", {}, "text/csv; charset=utf-8"),
        ("application/json;q=0.5, text/csv", {}, "text/csv; charset=utf-8"),
        ("*/*", {}, "application/json"),
        ("text/html", {}, "application/json"),
        ("text/csv", {"format": "json"}, "application/json"),
        ("application/json", {"format": "csv"}, "text/csv; charset=utf-8"),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/usage", "/api/v1/charges"])
def test_csv_goes_to_who_asks_for_it(
    api: Api, path: str, accept: str, query: dict[str, str], content_type: str
) -> None:
    """In the query, or in `Accept`."""
    answer = api.get(path, query_string=query, headers={"Accept": accept})
    assert (answer.status_code, answer.content_type) == (200, content_type)


def test_csv_pages_by_a_header(api: Api) -> None:
    """Which is not there on the last one."""
    query = {"from_": "2026-03-01", "to": "2026-03-04", "format": "csv", "limit": 2}
    first = asked(api, **query)
    second = asked(api, **query, cursor=first.headers["Switchhook-Next-Cursor"])
    begins = [row["ChargePeriodStart"][:10] for answer in (first, second) for row in sheet(answer)]
    assert begins == ["2026-03-01", "2026-03-02", "2026-03-03"]
    assert "Switchhook-Next-Cursor" not in second.headers


# The ledger's rows


def test_what_a_maximum_takes_away_is_counted_in_the_currency(api: Api) -> None:
    """Its quantity is what was too much, to every digit; it has no price that could be rounded."""
    priced(api.database, api.account.id, max_charge=Decimal("0.10"))
    called(api.database, api.account.id, at("2026-03-01T10:00"), seconds="91")
    maximum = asked(api, "/api/v1/charges").get_json()["data"][0]
    assert (maximum["line"], maximum["quantity"], maximum["unitPrice"]) == (
        "maximum",
        "0.05166666666666666667",
        "-1.00",
    )
    assert maximum["exact"].startswith("-0.0516666666666666666")
    (row, _) = sheet(asked(api, "/api/v1/charges", format="csv"))
    assert (row["PricingUnit"], row["ListUnitPrice"]) == ("USD", "-1.000000")


def test_charges_show_what_their_amount_follows_from(api: Api) -> None:
    """Each line of a charge, the newest call first."""
    account, database = api.account.id, api.database
    priced(database, account, connect_fee=Decimal("0.02"))
    called(database, account, at("2026-03-01T10:00"))
    session = called(database, account, at("2026-03-02T10:00"), seconds="91", tag="=cmd()")
    listed = asked(api, "/api/v1/charges").get_json()["data"]
    assert [(one["startedAt"][:10], one["line"]) for one in listed] == [
        ("2026-03-02", "connect_fee"), ("2026-03-02", "usage"), ("2026-03-01", "connect_fee"), ("2026-03-01", "usage"),
    ]  # fmt: skip
    fee, usage = listed[:2]
    assert (usage["unitPrice"], usage["amount"], usage["sessionId"], usage["tag"]) == (
        "0.10", "0.151667", session, "=cmd()",
    )  # fmt: skip
    assert (fee["quantity"], fee["unitPrice"], fee["amount"], fee["period"]) == ("1", "0.02", "0.02", "2026-03")
    assert Decimal(usage["quantity"]) * Decimal(usage["unitPrice"]) == pytest.approx(Decimal(usage["exact"]))

    rows = sheet(asked(api, "/api/v1/charges", format="csv", session=session))
    assert [list(row)[: len(FOCUS)] for row in rows] == [FOCUS, FOCUS]
    assert [(row["PricingUnit"], row["ListUnitPrice"], row["BilledCost"]) for row in rows] == [
        ("Calls", "0.020000", "0.020000"), ("Minutes", "0.100000", "0.151667"),
    ]  # fmt: skip
    # What is consumed can be added up: it stands on one row of each charge.
    assert [row["ConsumedQuantity"] for row in rows] == ["", "91"]
    assert {(row["ChargePeriodStart"], row["ChargePeriodEnd"]) for row in rows} == {
        ("2026-03-02T10:00:00Z", "2026-03-02T10:01:31Z")
    }
    assert {(row["ResourceId"], row["ChargeClass"]) for row in rows} == {(str(session), "")}


@pytest.mark.parametrize("query", [{}, {"period": "2026-03"}, {"from_": "2026-03-01", "to": "2026-04-01"}], ids=str)
def test_cursors_lead_through_every_charge_once(api: Api, query: dict[str, str]) -> None:
    """Several calls begin at one moment, and some before and after that month."""
    account, database = api.account.id, api.database
    priced(database, account)
    for day in ("2026-02-28", "2026-03-01", "2026-03-31", "2026-03-31", "2026-03-31", "2026-04-01"):
        called(database, account, at(f"{day}T23:30"))
    ids, cursor = [], None
    while True:
        more: dict[str, str] = {} if cursor is None else {"cursor": cursor}
        page = asked(api, "/api/v1/charges", limit=2, **query, **more).get_json()
        ids += [one["id"] for one in page["data"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert len(ids) == len(set(ids)) == (6 if not query else 4)
    assert set(ids) <= {one["id"] for one in asked(api, "/api/v1/charges").get_json()["data"]}


def test_what_corrects_a_closed_statement_is_a_correction(api: Api) -> None:
    """It counts in the month of its `period`, beside that month's own calls."""
    account, database = api.account.id, api.database
    priced(database, account)
    with database.begin() as connection:
        closed = text("UPDATE accounts SET closed_through = '2026-02-01' WHERE id = :id")
        connection.execute(closed, {"id": account})
    called(database, account, at("2026-02-10T10:00"))
    called(database, account, at("2026-03-02T10:00"))
    listed = asked(api, "/api/v1/charges", period="2026-03").get_json()["data"]
    assert [(one["startedAt"][:7], one["reference"]) for one in listed] == [("2026-03", None), ("2026-02", "2026-02")]
    assert asked(api, "/api/v1/charges", period="2026-02").get_json()["data"] == []
    rows = sheet(asked(api, "/api/v1/charges", period="2026-03", format="csv"))
    assert [(row["ChargeClass"], row["x_Reference"]) for row in rows] == [("", ""), ("Correction", "2026-02")]


def test_what_was_not_charged_shows_its_list_price(api: Api) -> None:
    """A call on the customer's own key."""
    account, database = api.account.id, api.database
    priced(database, account)
    called(database, account, at("2026-03-02T10:00"), seconds="90", own_key=True)
    (row,) = sheet(asked(api, "/api/v1/charges", format="csv"))
    assert (row["BilledCost"], row["ListCost"], row["ListUnitPrice"]) == ("0.000000", "0.150000", "0.100000")
    assert json.loads(row["Tags"])["switchhook:reason"] == "own_provider_key"


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ({"period": "2026-13"}, "period", "validation_error"),
        ({"period": "2026-03", "from_": "2026-03-01"}, "period", "range_ambiguous"),
        ({"kind": "gift"}, "kind", "validation_error"),
        ({"from_": "2026-03-02", "to": "2026-03-01"}, "to", "range_empty"),
        ({"from_": "2026-03-02T10:00"}, "from", "moment_without_offset"),
        ({"tz": "Mars"}, "tz", "time_zone_unknown"),
    ],
    ids=str,
)
def test_charges_refuse_what_makes_no_sense(api: Api, query: dict[str, str], field: str, code: str) -> None:
    """As usage does; a moment between quarter-hours is as good as another here."""
    answer = asked(api, "/api/v1/charges", **query)
    assert (answer.status_code, answer.get_json()["field"], answer.get_json()["code"]) == (400, field, code)
    assert asked(api, "/api/v1/charges", from_="2026-03-02T10:07:03Z").status_code == 200


# Arithmetic

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]
QUARTER = timedelta(minutes=15)
_FIRST = datetime(2026, 3, 25, tzinfo=UTC)


@pytest.fixture
def busy(api: Api) -> Api:
    """An account with a call every few hours for some weeks around the changes of clocks."""
    priced(api.database, api.account.id, connect_fee=Decimal("0.003"))
    for number in range(60):
        seconds = None if number % 11 == 0 else str(number * 7)
        provider = ("retell", "elevenlabs")[number % 2]
        called(api.database, api.account.id, _FIRST + number * timedelta(hours=5), seconds=seconds, provider=provider)
    return api


def test_days_add_up_to_providers_over_any_range(busy: Api) -> None:
    """In any zone: no session is in two days, and none is in none."""

    groupings: tuple[list[Dimension], ...] = (["day"], ["provider"], [])

    @settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(
        begins=st.integers(-50, 1300), width=st.integers(1, 1400), tz=st.sampled_from(ZONES), is_tagged=st.booleans()
    )
    def examined(*, begins: int, width: int, tz: str, is_tagged: bool) -> None:
        since = _FIRST + begins * QUARTER
        within = read(since.isoformat(), (since + width * QUARTER).isoformat(), tz, now=since)
        filters = Filters(provider="retell") if is_tagged else None
        with busy.database.begin() as connection:
            by_day, by_provider, direct = (
                reports.usage(connection, account_id=busy.account.id, within=within, by=by, filters=filters)
                for by in groupings
            )
            expected = connection.execute(
                text(
                    "SELECT count(*), COALESCE(sum(cost), 0) FROM sessions WHERE account_id = :id AND rated_at >= :a"
                    " AND rated_at < :z AND provider LIKE :p"
                ),
                {"id": busy.account.id, "a": within.begins, "z": within.ends, "p": "retell" if is_tagged else "%"},
            ).one()
        assert [one.period for one in by_day.groups] == list(cut(within.begins, within.ends, within.zone))
        for name in ("sessions", "unrated", "billed_seconds", "duration_seconds", "amount", "list_amount"):
            days = sum(getattr(one.sums, name) for one in by_day.groups)
            providers = sum(getattr(one.sums, name) for one in by_provider.groups)
            totals = {getattr(one.totals, name) for one in (by_day, by_provider, direct)}
            assert {days, providers} == totals, name
        assert (direct.totals.sessions, direct.totals.amount) == tuple(expected)

    examined()
