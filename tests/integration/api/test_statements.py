"""Statements and credit notes over HTTP: in three forms, provisional and closed, for those who may."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser

import msgspec
import pytest

from billing.periods import month_of
from tests.integration.api.conftest import Api
from tests.integration.billing.months import JULY, JUNE, Books, graduated

TAG = "=1+1<script>alert(1)</script>"
VOID = {"meta", "br"}


@pytest.fixture
def own(api: Api) -> Books:
    """The account's books: a June of two calls with a month's price, one of them with a tag that means harm."""
    made = Books(api.database, api.account.id)
    made.card(month_price=graduated((None, "0.05")))
    made.talk(("a", 91), ("b", 60))
    made.tamper(f"UPDATE ledger SET tag = '{TAG}' WHERE conversation_id = 'b' AND account_id = :account")
    return made


def test_shows_a_month_as_it_was_closed(api: Api, own: Books) -> None:
    """The digest is of the text, which anybody can write again."""
    own.close(JUNE)
    shown = api.get("/api/v1/statements/2026-06").get_json()
    assert (shown["state"], shown["total"], shown["currency"]) == ("closed", "0.13", "USD")
    text = msgspec.json.encode(shown["statement"], order="deterministic")
    assert hashlib.sha256(text).hexdigest() == shown["sha256"]
    assert shown["statement"] == own.statement(JUNE).body
    assert shown["number"] == shown["statement"]["number"]


def test_shows_an_open_month_as_provisional(api: Api, own: Books) -> None:
    """Without a number or a digest; the month's price is in it."""
    shown = api.get("/api/v1/statements/2026-06").get_json()
    assert (shown["state"], shown["number"], shown["sha256"], shown["closedAt"]) == ("draft", None, None, None)
    assert (shown["total"], shown["statement"]["ledger"]) == ("0.13", None)
    now = month_of(datetime.now(UTC))
    assert api.get(f"/api/v1/statements/{now:%Y-%m}").get_json()["state"] == "open"


def test_a_month_before_there_was_an_account_is_over(api: Api, own: Books) -> None:
    """Before the first closing as after it: no draft that anybody waits for, and no number."""
    for _ in range(2):
        shown = api.get("/api/v1/statements/2000-01").get_json()
        assert (shown["state"], shown["number"], shown["total"]) == ("closed", None, "0.00")
        own.close(JUNE)


def test_lists_months_and_pages_through_them(api: Api, own: Books) -> None:
    """The newest first, closed ones with their totals."""
    own.close(JUNE)
    pages, cursor = [], None
    for _ in range(1000):
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = api.get("/api/v1/statements", query_string=query).get_json()
        pages += page["data"]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    months = [one["month"] for one in pages]
    assert months == sorted(set(months), reverse=True)
    assert (pages[-1]["month"], pages[-1]["state"], pages[-1]["total"]) == ("2026-06", "closed", "0.13")
    assert "statement" not in pages[-1]


@pytest.mark.parametrize("how", ["query", "accept"])
def test_csv_adds_up_to_the_total_and_runs_nothing(api: Api, own: Books, how: str) -> None:
    """A row for all that is added up, the rounding too; a tag that begins like a formula is text."""
    own.close(JUNE)
    asked = {"query_string": {"format": "csv"}} if how == "query" else {"headers": {"Accept": "text/csv"}}
    answer = api.get("/api/v1/statements/2026-06", **asked)
    assert answer.content_type == "text/csv; charset=utf-8"
    assert re.search(r'filename="S-2026-\d{6}-2026-06\.csv"', answer.headers["Content-Disposition"])
    rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))
    assert sum(Decimal(row["BilledCost"]) for row in rows) == Decimal("0.13")
    assert {row["x_Line"] for row in rows} == {"usage", "month_price", "rounding"}
    assert f"'{TAG}" in {row["x_Tag"] for row in rows}
    assert {row["x_State"] for row in rows} == {"closed"}


class Checked(HTMLParser):
    """Notes every element, that each is closed in turn, and the last cell of each row of each table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""
        self.tables: list[list[str]] = []
        self._cell = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002  as HTMLParser calls it
        """One begins."""
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "td":
            self._cell = ""

    def handle_endtag(self, tag: str) -> None:
        """The last one that began must end."""
        assert self.open.pop() == tag
        if tag == "tr" and "tbody" in self.open:
            self.tables[-1].append(self._cell)

    def handle_data(self, data: str) -> None:
        """What is read."""
        self.text += data
        self._cell += data

    @property
    def amounts(self) -> list[list[Decimal]]:
        """The last column of each table."""
        plain = str.maketrans({"\u2212": "-", "\u202f": None})
        return [[Decimal(cell.translate(plain).split()[0]) for cell in table] for table in self.tables]


@pytest.mark.parametrize("is_closed", [True, False])
@pytest.mark.parametrize("how", ["query", "accept"])
def test_page_is_readable_and_holds_nothing_that_runs(api: Api, own: Books, how: str, is_closed: bool) -> None:
    """Whole, escaped, without scripts; net of tax is said, and what is provisional."""
    if is_closed:
        own.close(JUNE)
    browser = {"headers": {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}}
    answer = api.get(
        "/api/v1/statements/2026-06", **(browser if how == "accept" else {"query_string": {"format": "html"}})
    )
    assert answer.content_type == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    page = Checked(answer.get_data(as_text=True))
    assert page.open == []
    assert page.seen & {"script", "img", "link", "iframe"} == set()
    assert TAG in page.text
    assert "net of tax" in page.text
    assert "to the decimals of its rate card" in page.text.replace("\n", " ")
    assert ("Provisional" in page.text) is not is_closed
    assert ("SHA-256" in page.text) is is_closed


def test_page_prints_amounts_that_add_up(api: Api, own: Books) -> None:
    """Corrections, a credit note and what could not be charged: the numbers on paper give the total."""
    own.close(JUNE)
    note = api.post(
        f"/api/v1/accounts/{api.account.id}/credit-notes",
        {"month": "2026-06", "amount": "0.01", "reason": "an outage", "approver": "ben"},
        key=api.operator_key,
    ).get_json()
    own.charge(own.call("a", 31, word=2))
    own.talk(("c", 60, JULY))
    own.close(JULY)
    html = api.get("/api/v1/statements/2026-07", query_string={"format": "html"}).get_data(as_text=True)
    page = Checked(html)
    assert f"Corrections of {own.statement(JUNE).number}" in page.text
    assert note["number"].startswith("CN-")
    assert note["number"] in page.text
    *parts, (subtotal, rounding, total) = page.amounts
    assert len(parts) == 4  # calls, corrections, prices of months, credit notes
    assert sum(amount for part in parts for amount in part) == subtotal
    assert subtotal + rounding == total == own.statement(JULY).total


@pytest.mark.parametrize("month", ["2026-13", "1999-01", "2026-6", "2026-06-01", "june", "2999-01"])
def test_what_is_no_month_is_not_found(api: Api, month: str) -> None:
    """Nor is one that has not begun."""
    assert api.get(f"/api/v1/statements/{month}").status_code == 404


def test_operator_closes_a_month(api: Api, own: Books) -> None:
    """And the ones before it; again, nothing happens."""
    path = f"/api/v1/accounts/{api.account.id}/statements/2026-06/close"
    answer = api.post(path, {}, key=api.operator_key)
    assert [one["month"] for one in answer.get_json()["data"]] == ["2026-06"]
    assert api.post(path, {}, key=api.operator_key).get_json() == {"data": []}
    assert api.post(path, {}).status_code == 403


def test_month_that_is_not_over_is_not_closed(api: Api, own: Books) -> None:
    """409, also when the operator is in a hurry."""
    now = month_of(datetime.now(UTC))
    path = f"/api/v1/accounts/{api.account.id}/statements/{now:%Y-%m}/close"
    refused = api.post(path, {"early": True}, key=api.operator_key)
    assert (refused.status_code, refused.get_json()["code"]) == (409, "month_open")


def test_operator_writes_credit_notes_and_the_account_reads_them(api: Api, own: Books) -> None:
    """With a number, the statement's, and who stands behind it."""
    own.close(JUNE)
    path = f"/api/v1/accounts/{api.account.id}/credit-notes"
    note = {"month": "2026-06", "amount": "0.10", "reason": "an outage", "approver": "ben"}
    made = api.post(path, note, key=api.operator_key).get_json()
    assert (made["reference"], made["amount"], made["actor"]) == (own.statement(JUNE).number, "0.10", "operator")
    assert api.get("/api/v1/credit-notes").get_json() == {"data": [made], "nextCursor": None}
    (change,) = api.get("/api/v1/audit", query_string={"action": "credit_note.issued"}).get_json()["data"]
    assert (change["objectId"], change["before"]) == (made["number"], None)
    assert change["after"] == hashlib.sha256(msgspec.json.encode(made, order="deterministic")).hexdigest()
    assert api.get("/api/v1/credit-notes", key=api.other.key).get_json()["data"] == []
    refused = [
        api.post(path, note | change, key=api.operator_key)
        for change in ({"amount": "0.04"}, {"approver": "Operator"}, {"month": "2026-05"}, {"amount": "0"})
    ]
    assert [one.status_code for one in refused] == [409, 400, 404, 400]
    assert refused[0].get_json()["code"] == "credit_exceeds_statement"
