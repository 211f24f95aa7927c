"""Usage by CanaryLLM's paths: its envelope and totals, and our rows."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tests.integration.api.conftest import Api
from tests.integration.api.used import a_template, called, priced

pytestmark = pytest.mark.usefixtures("day_that_goes_on")

MARCH = {"year": 2026, "month": 3}
PATHS = [
    "/api/llm/usage",
    "/api/llm/usage/daily",
    "/api/llm/usage/monthly",
    "/api/portal/usage/daily",
    "/api/portal/usage/by-model",
    "/api/portal/overview",
    "/api/portal/export/usage",
]


def data(api: Api, path: str, **query: Any) -> Any:
    """What is in the envelope."""
    answer = api.get(path, query_string=query)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    assert answer.get_json()["success"] is True
    return answer.get_json()["data"]


@pytest.fixture
def march(api: Api) -> int:
    """Some calls of March 2026, of a template with a model, of one with its maker alone, and of none; the first."""
    database, account = api.database, api.account.id
    priced(database, account)
    with_model = a_template(database, account, llmModel="gemini-2.5-flash", llmProvider="gemini")
    with_maker = a_template(database, account, llmProvider="openai")
    called(database, account, datetime(2026, 3, 1, tzinfo=UTC), seconds="61", template_id=with_model)
    called(database, account, datetime(2026, 3, 1, 9, tzinfo=UTC), seconds="62", template_id=with_maker)
    called(database, account, datetime(2026, 3, 1, 10, tzinfo=UTC), seconds=None, template_id=with_maker)
    called(database, account, datetime(2026, 3, 31, 23, 59, tzinfo=UTC), seconds="30", provider="elevenlabs")
    called(database, account, datetime(2026, 4, 1, tzinfo=UTC))
    return with_model


def test_totals_are_of_the_current_month(api: Api) -> None:
    """A request is a session; money is a number here; no tokens are counted."""
    database, account = api.database, api.account.id
    priced(database, account)
    first = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    called(database, account, first)
    called(database, account, first, seconds=None)
    called(database, account, first - timedelta(seconds=1))
    expected = {"totalRequests": 2, "totalTokens": 0, "totalPrice": 0.1, "currency": "USD", "unrated": 1}
    assert data(api, "/api/llm/usage") == expected


@pytest.mark.parametrize("path", ["/api/llm/usage/daily", "/api/portal/usage/daily"])
def test_days_have_our_rows(api: Api, march: int, path: str) -> None:
    """All days of a month that is over, and of what each is made."""
    days = data(api, path, **MARCH)
    assert [one["date"] for one in days] == [f"2026-03-{day:02}" for day in range(1, 32)]
    first, second, last = days[0], days[1], days[-1]
    breakdown = first.pop("breakdown")
    assert first == {
        "date": "2026-03-01", "sessions": 3, "durationSeconds": 123.0, "billedSeconds": 123, "billedMinutes": "2.05",
        "price": "0.205000", "currency": "USD", "unrated": 1,
    }  # fmt: skip
    assert [(one["model"], one["sessions"], one["price"], one["unrated"]) for one in breakdown] == [
        ("gemini-2.5-flash", 1, "0.101667", 0),
        ("openai", 2, "0.103333", 1),
    ]
    assert (second["sessions"], second["price"], second["breakdown"]) == (0, "0.000000", [])
    assert [one["model"] for one in last["breakdown"]] == ["elevenlabs"]


def test_days_to_come_are_not_shown(api: Api) -> None:
    """The current month ends with today; a month to come has none."""
    today = datetime.now(UTC).date()
    days = data(api, "/api/llm/usage/daily")
    assert [days[0]["date"], days[-1]["date"]] == [today.replace(day=1).isoformat(), today.isoformat()]
    assert data(api, "/api/portal/usage/daily", year=2199, month=12) == []


def test_months_are_the_last_twelve(api: Api) -> None:
    """This one last."""
    database, account = api.database, api.account.id
    priced(database, account)
    today = datetime.now(UTC).date()
    first = date(today.year - 1 + today.month // 12, today.month % 12 + 1, 1)
    begins = datetime(first.year, first.month, 1, tzinfo=UTC)
    called(database, account, begins, seconds="120")
    called(database, account, begins - timedelta(seconds=1))
    months = data(api, "/api/llm/usage/monthly")
    assert len(months) == 12
    assert [months[0]["date"], months[-1]["date"]] == [f"{first:%Y-%m}", f"{today:%Y-%m}"]
    assert (months[0]["sessions"], months[0]["price"]) == (1, "0.200000")
    assert sum(one["sessions"] for one in months) == 1


def test_models_are_those_of_templates(api: Api, march: int) -> None:
    """Else whoever serves them, else the voice provider; the overview has them beside the month's sums."""
    models = data(api, "/api/portal/usage/by-model", **MARCH)
    assert [(one["model"], one["sessions"], one["price"]) for one in models] == [
        ("elevenlabs", 1, "0.050000"),
        ("gemini-2.5-flash", 1, "0.101667"),
        ("openai", 2, "0.103333"),
    ]
    overview = data(api, "/api/portal/overview", **MARCH)
    assert overview.pop("models") == models
    assert overview == {
        "year": 2026, "month": 3, "totalRequests": 4, "totalTokens": 0, "totalPrice": 0.255, "currency": "USD",
        "unrated": 1, "sessions": 4, "durationSeconds": 153.0, "billedSeconds": 153, "billedMinutes": "2.55",
        "price": "0.255000",
    }  # fmt: skip


def test_the_export_is_csv_text(api: Api, march: int) -> None:
    """By days and providers, without an envelope."""
    answer = api.get("/api/portal/export/usage", query_string=MARCH)
    assert (answer.status_code, answer.content_type) == (200, "text/csv; charset=utf-8")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="usage-2026-03.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline="")))
    assert [(row["ChargePeriodStart"], row["BilledCost"], row["x_UnratedSessions"]) for row in rows] == [
        ("2026-03-01T00:00:00Z", "0.205000", "1"),
        ("2026-03-31T00:00:00Z", "0.050000", "0"),
    ]


@pytest.mark.parametrize("path", PATHS)
def test_another_account_sees_nothing_of_it(api: Api, march: int, path: str) -> None:
    """Not its models, nor its currency."""
    query = {} if path in ("/api/llm/usage", "/api/llm/usage/monthly") else MARCH
    answer = api.get(path, query_string=query, key=api.other.key)
    assert answer.status_code == 200
    assert not {"USD", "openai", "gemini"} & set(answer.get_data(as_text=True).replace('"', ",").split(","))


@pytest.mark.parametrize("path", [path for path in PATHS if path not in ("/api/llm/usage", "/api/llm/usage/monthly")])
@pytest.mark.parametrize("query", [{"month": "13"}, {"month": "0"}, {"year": "1999"}, {"year": "x"}], ids=str)
def test_what_is_no_month_is_refused_by_its_name(api: Api, path: str, query: dict[str, str]) -> None:
    """In the envelope of its errors."""
    answer = api.get(path, query_string=query)
    refused = answer.get_json()
    assert (answer.status_code, refused["success"], refused["code"]) == (400, False, "VALIDATION_ERROR")
    assert [one["path"] for one in refused["details"]["issues"]] == list(query)
