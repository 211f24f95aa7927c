"""Budgets on a real Postgres: a crossing is told once whoever looks, and a hard limit holds whoever begins sessions."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import event, func, select, text

from billing import budgets as rules
from billing.ledger import charge
from billing.periods import begins, month_of
from billing.reservations import check, open_session
from relay.calls import TRUST_PROVIDER, CallEvent, Ending, Facts, derived_session_id
from relay.errors import BudgetExceeded, Conflict
from relay.sealing import KeyRing
from relay.store import accounts, budgets, notices, provider_keys, rate_cards, sessions, tables, templates
from relay.store.budgets import Budget
from relay.store.database import Database
from workers.notices import watch_budgets

pytestmark = pytest.mark.usefixtures("day_that_goes_on")

RING = KeyRing("a passphrase for tests only, long enough to be taken")
_numbers = itertools.count(1)


@pytest.fixture
def account_id(database: Database) -> str:
    """An account at 1 USD a minute."""
    return an_account(database)


def an_account(database: Database, *, per_minute: str | None = "1") -> str:
    with database.begin() as connection:
        made = accounts.create(connection, name="Acme").id
        if per_minute is not None:
            rate_cards.add(connection, made, per_minute=Decimal(per_minute))
    return made


def a_budget(database: Database, account_id: str, amount: str = "100", **given: Any) -> Budget:
    values = {"thresholds": (50, 80, 100)} | given
    with database.begin() as connection:
        return budgets.create(connection, account_id=account_id, amount=Decimal(amount), **values)


def a_template(database: Database, account_id: str, **config: Any) -> int:
    with database.begin() as connection:
        made = templates.create(
            connection, RING, account_id=account_id, name="T", type="conversation", config=config, provider="retell"
        )
        return made.template.id


def spend(
    database: Database,
    account_id: str,
    minutes: str,
    *,
    at: datetime | None = None,
    conversation_id: str | None = None,
    session_id: int | None = None,
    template_id: int | None = None,
    kind: str = "call_ended",
) -> str:
    """Charge a call of so many minutes; its conversation."""
    conversation_id = conversation_id or f"call_{next(_numbers)}"
    began_ms = int((at or datetime.now(UTC)).timestamp() * 1000)
    seconds = str(Decimal(minutes) * 60)
    call = CallEvent(
        provider="retell",
        kind=kind,
        event_class="event",
        conversation_id=conversation_id,
        ending=Ending(status="completed", duration_seconds=seconds, started_at_ms=began_ms),
    )
    facts = Facts(
        event_id=f"evt_{next(_numbers)}",
        account_id=account_id,
        call=call,
        session_id=session_id or derived_session_id(account_id, "retell", conversation_id),
        accepted_at_ms=began_ms,
        template_id=template_id,
        trust=TRUST_PROVIDER,
    )
    with database.begin() as connection:
        charge(connection, [facts])
    return conversation_id


def watch(database: Database, account_id: str, now: datetime | None = None) -> int:
    with database.begin() as connection:
        return rules.watch(connection, [account_id], now or datetime.now(UTC))


def told(database: Database) -> list[dict[str, Any]]:
    """The bodies of what waits to be sent, in the order in which it was noted."""
    with database.begin() as connection:
        rows = connection.execute(select(tables.notices.c.body).order_by(tables.notices.c.at, tables.notices.c.id))
        return sorted((json.loads(body) for body in rows.scalars()), key=lambda one: (one["month"], one["threshold"]))


def thresholds(database: Database) -> list[int]:
    return [one["threshold"] for one in told(database)]


def test_a_crossing_is_told_once(database: Database, account_id: str) -> None:
    """However often somebody looks; and the next one is told when it comes."""
    budget = a_budget(database, account_id)
    spend(database, account_id, "49")
    assert (watch(database, account_id), thresholds(database)) == (0, [])
    spend(database, account_id, "1.5")
    assert (watch(database, account_id), watch(database, account_id)) == (1, 0)
    (alert,) = told(database)
    assert alert | {"at": ""} == {
        "type": "switchhook.budget.alert",
        "livemode": True,
        "budgetId": budget.id,
        "tag": None,
        "month": f"{datetime.now(UTC):%Y-%m}",
        "threshold": 50,
        "amount": "100.00",
        "spent": "50.50",
        "currency": "USD",
        "at": "",
    }
    spend(database, account_id, "60")
    assert watch(database, account_id) == 2
    assert thresholds(database) == [50, 80, 100]


def test_many_processes_that_look_at_once_tell_once(database: Database, account_id: str) -> None:
    """Each crossing has one notice, whoever notes it."""
    a_budget(database, account_id)
    spend(database, account_id, "90")
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: watch(database, account_id), range(16)))
    assert sum(counts) == 2
    assert thresholds(database) == [50, 80]


def test_a_correction_that_goes_down_and_up_again_is_no_news(database: Database, account_id: str) -> None:
    """Within one month."""
    a_budget(database, account_id)
    conversation_id = spend(database, account_id, "60")
    assert watch(database, account_id) == 1
    spend(database, account_id, "10", conversation_id=conversation_id, kind="call_analyzed")
    assert watch(database, account_id) == 0
    with database.begin() as connection:
        (standing,) = rules.standings(connection, [account_id], month_of(datetime.now(UTC)))
    assert (standing.spent, standing.told) == (Decimal(10), (50,))
    spend(database, account_id, "50")
    assert watch(database, account_id) == 0


def test_a_larger_budget_is_told_of_again(database: Database, account_id: str) -> None:
    """Only of the thresholds that it lifts above what is spent, as another event, and once they are crossed."""
    budget = a_budget(database, account_id)
    spend(database, account_id, "100")
    assert watch(database, account_id) == 3

    def change(amount: str) -> None:
        with database.begin() as connection:
            now = budgets.get(connection, account_id=account_id, budget_id=budget.id, for_change=True)
            rules.change(connection, now, amount=Decimal(amount))

    change("200")
    assert watch(database, account_id) == 0
    spend(database, account_id, "65")
    assert watch(database, account_id) == 1
    assert [(one["threshold"], one["amount"]) for one in told(database)] == [
        (50, "100.00"), (80, "100.00"), (80, "200.00"), (100, "100.00")
    ]  # fmt: skip
    with database.begin() as connection:
        assert len({one.id for one in notices.due(connection, limit=9)}) == 4
    change("100")
    assert watch(database, account_id) == 1  # 100 %, of the smaller one again


def test_a_budget_that_is_changed_meanwhile_is_looked_at_again(database: Database, account_id: str) -> None:
    """What was seen of it is not told any more."""
    budget = a_budget(database, account_id)
    spend(database, account_id, "90")
    with database.begin() as connection:
        (seen,) = rules.standings(connection, [account_id], month_of(datetime.now(UTC)))
    with database.begin() as connection:
        rules.change(connection, budget, amount=Decimal(1000))
    with database.begin() as connection:
        assert budgets.tell(connection, seen, 80) is None


def test_each_tag_has_a_budget_of_its_own(database: Database, account_id: str) -> None:
    """The account's counts all of its calls, a tag's those of its templates."""
    a_budget(database, account_id, "100")
    of_tag = a_budget(database, account_id, "10", tag="support")
    a_budget(database, account_id, "10", tag="sales")
    spend(database, account_id, "6", template_id=a_template(database, account_id, tag="support"))
    spend(database, account_id, "44")
    assert watch(database, account_id) == 2
    assert {(one["budgetId"] == of_tag.id, one["threshold"]) for one in told(database)} == {(True, 50), (False, 50)}
    with pytest.raises(Conflict) as refused:
        a_budget(database, account_id, tag="sales")
    assert refused.value.code == "budget_exists"


def test_the_months_are_apart(database: Database, account_id: str) -> None:
    """What a month spent is told in it, or in the 72 hours after it; a budget is of no month before its first."""
    this = month_of(datetime.now(UTC))
    last_moment = begins(this) - timedelta(minutes=1)
    young = a_budget(database, account_id)
    spend(database, account_id, "60", at=last_moment)
    assert watch(database, account_id, begins(this) + timedelta(hours=1)) == 0
    with database.begin() as connection:
        connection.execute(
            text("UPDATE budgets SET created_at = :at WHERE id = :id"), {"at": last_moment, "id": young.id}
        )
    assert watch(database, account_id, begins(this) + timedelta(hours=73)) == 0
    assert watch(database, account_id, begins(this) + timedelta(hours=1)) == 1
    spend(database, account_id, "60", at=begins(this) + timedelta(minutes=1))
    assert watch(database, account_id, begins(this) + timedelta(hours=1)) == 1
    assert [one["month"] for one in told(database)] == [f"{month_of(last_moment):%Y-%m}", f"{this:%Y-%m}"]


@contextmanager
def counted_statements(database: Database) -> Iterator[list[str]]:
    """The statements that are executed while the block runs."""
    seen: list[str] = []

    def note(*given: Any) -> None:
        seen.append(given[2])

    event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine, "before_cursor_execute", note)


def test_all_accounts_are_looked_at_with_few_queries(database: Database) -> None:
    """By pages of accounts, and none of them is left out."""
    found = sorted(an_account(database) for _ in range(7))
    for account_id in found:
        a_budget(database, account_id)
        a_budget(database, account_id, tag="support")
    with counted_statements(database) as seen:
        assert watch_budgets(database) == 0
    assert len(seen) <= 2 * len(rules.months(datetime.now(UTC)))
    for account_id in found:
        spend(database, account_id, "55")
    assert watch_budgets(database, accounts=3) == 7
    assert thresholds(database) == [50] * 7


def test_the_sum_of_a_month_is_read_by_the_index(database: Database, account_id: str) -> None:
    """And not with all quarter-hours of the account, nor those of others."""
    with database.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO usage_quarters (account_id, quarter, provider, status, currency, amount)
                SELECT a, q, 'retell', 'completed', 'USD', 1
                FROM unnest(ARRAY[:account, 'acc_other']) a,
                    generate_series('2025-01-01Z'::timestamptz, '2026-12-31Z', '15 minutes') q
            """),
            {"account": account_id},
        )
        connection.execute(text("ANALYZE usage_quarters"))
    a_budget(database, account_id, "1000000")
    month = datetime(2026, 2, 1, tzinfo=UTC).date()
    with database.begin() as connection:
        (standing,) = rules.standings(connection, [account_id], month)
        assert standing.spent == 28 * 96
        given = {
            "accounts": [account_id],
            "month": month,
            "begins": begins(month),
            "ends": begins(month.replace(month=3)),
            "pending": timedelta(hours=2),
            "active": timedelta(hours=25),
            "agora": timedelta(hours=73),
        }
        plan = connection.execute(text("EXPLAIN (ANALYZE, FORMAT JSON) " + str(budgets._STANDINGS)), given).scalar_one()
    scans = [node for node in nodes(plan[0]["Plan"]) if node.get("Relation Name") == "usage_quarters"]
    read = [(node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans]
    assert read == [28 * 96]
    assert all("Seq Scan" not in node["Node Type"] for node in scans)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


# Hard limits


def begin(database: Database, account_id: str, **given: Any) -> int:
    with database.begin() as connection:
        return open_session(connection, account_id=account_id, provider="retell", **given).id


def reserved(database: Database, account_id: str) -> Decimal:
    with database.begin() as connection:
        held = select(func.coalesce(func.sum(tables.sessions.c.reserved), 0)).where(
            tables.sessions.c.account_id == account_id
        )
        return Decimal(connection.execute(held).scalar_one())


def test_as_many_sessions_begin_as_the_limit_allows(database: Database, account_id: str) -> None:
    """Twenty at once, of which three may: a minute's price of 1 USD for at most ten minutes, and 35 USD."""
    a_budget(database, account_id, "35", hard_limit=True)
    a_budget(database, account_id, "1", tag="another", hard_limit=True)

    def attempt(_: int) -> bool:
        try:
            begin(database, account_id)
        except BudgetExceeded:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(attempt, range(20))) == 3
    assert reserved(database, account_id) == 30


def test_a_refusal_names_the_budget_and_what_is_left(database: Database, account_id: str) -> None:
    """With its currency, and what was asked for."""
    budget = a_budget(database, account_id, "15", hard_limit=True)
    begin(database, account_id)
    with pytest.raises(BudgetExceeded) as refused:
        begin(database, account_id)
    assert refused.value.status == 402
    assert refused.value.detail == (
        f"budget {budget.id} of the account has 5.00 USD left this month, and this session may cost 10.00 USD"
    )


@pytest.mark.parametrize("end", ["charged", "failed", "abandoned", "never begun"])
def test_what_is_held_back_is_given_back_at_the_end(database: Database, account_id: str, end: str) -> None:
    """A call's end gives back what it did not cost; what never was a call gives back all."""
    a_budget(database, account_id, "10", hard_limit=True)
    session_id = begin(database, account_id)
    with pytest.raises(BudgetExceeded):
        begin(database, account_id)
    left_for = 600
    if end == "charged":
        spend(database, account_id, "1", session_id=session_id)
        left_for = 540
    elif end == "failed":
        with database.begin() as connection:
            sessions.fail(connection, account_id=account_id, session_id=session_id, code="unreachable")
    else:
        ago = timedelta(hours=25 if end == "abandoned" else 3)
        with database.begin() as connection:
            connection.execute(text("UPDATE sessions SET created_at = now() - CAST(:ago AS interval)"), {"ago": ago})
            sessions.abandon(connection, limit=10)
    if end != "never begun":
        assert reserved(database, account_id) == 0
    begin(database, account_id, template_id=a_template(database, account_id, maxDurationSeconds=left_for))
    with pytest.raises(BudgetExceeded):
        begin(database, account_id, template_id=a_template(database, account_id, maxDurationSeconds=30))


def test_a_call_under_way_is_held_back_for_as_long_as_it_lasts(database: Database, account_id: str) -> None:
    """Although nobody told its end for longer than most calls take."""
    a_budget(database, account_id, "10", hard_limit=True)
    session_id = begin(database, account_id)
    with database.begin() as connection:
        sessions.begun(connection, account_id=account_id, session_id=session_id)
        connection.execute(text("UPDATE sessions SET created_at = now() - interval '3 hours'"))
    with pytest.raises(BudgetExceeded):
        begin(database, account_id)


def test_a_tags_limit_is_for_its_sessions(database: Database, account_id: str) -> None:
    """And the account's for all, those too."""
    tagged = a_template(database, account_id, tag="support")
    a_budget(database, account_id, "10", tag="support", hard_limit=True)
    begin(database, account_id, template_id=tagged)
    begin(database, account_id)
    with pytest.raises(BudgetExceeded, match=r"of the tag support has 0\.00 USD left"):
        begin(database, account_id, template_id=tagged)
    a_budget(database, account_id, "19", hard_limit=True)
    with pytest.raises(BudgetExceeded, match="of the account"):
        begin(database, account_id)


def test_only_hard_limits_hold_anything_back(database: Database, account_id: str) -> None:
    """A budget that is only told of refuses nothing."""
    a_budget(database, account_id, "1")
    spend(database, account_id, "5")
    begin(database, account_id)
    assert reserved(database, account_id) == 0


def test_a_call_on_the_accounts_own_key_is_not_held_back(database: Database, account_id: str) -> None:
    """It costs 0, and its session says so."""
    a_budget(database, account_id, "1", hard_limit=True)
    with pytest.raises(BudgetExceeded):
        begin(database, account_id)
    with database.begin() as connection:
        provider_keys.put(connection, RING, account_id=account_id, provider="retell", key="theirs")
    session_id = begin(database, account_id)
    with database.begin() as connection:
        session = sessions.get(connection, account_id=account_id, session_id=session_id)
    assert (session.own_key, session.reserved) == (True, None)
    spend(database, account_id, "5", session_id=session_id)
    with database.begin() as connection:
        session = sessions.get(connection, account_id=account_id, session_id=session_id)
    assert (session.cost, session.list_cost) == (Decimal(0), Decimal(5))


@pytest.mark.parametrize("price", ["none", "markup"])
def test_where_nobody_knows_the_price_sessions_begin_while_anything_is_left(database: Database, price: str) -> None:
    """And nothing is held back for them."""
    account_id = an_account(database, per_minute=None)
    a_budget(database, account_id, "5", hard_limit=True)
    if price == "markup":
        with database.begin() as connection:
            rate_cards.add(connection, account_id, per_minute=Decimal(0), markup=Decimal("1.3"))
    for _ in range(3):
        begin(database, account_id)
    assert reserved(database, account_id) == 0
    with database.begin() as connection:
        connection.execute(
            text("""INSERT INTO usage_quarters (account_id, quarter, provider, status, currency, amount)
                    VALUES (:account, date_trunc('hour', now()), 'retell', 'completed', 'USD', 5)"""),
            {"account": account_id},
        )
    with pytest.raises(BudgetExceeded, match=r"has 0\.00( USD)? left this month$"):
        begin(database, account_id)


def test_a_look_holds_nothing_back(database: Database, account_id: str) -> None:
    """It refuses what would not fit, and leaves room for what comes."""
    a_budget(database, account_id, "10", hard_limit=True)
    for _ in range(3):
        with database.begin() as connection:
            check(connection, account_id=account_id, provider="retell")
    begin(database, account_id)
    with pytest.raises(BudgetExceeded), database.begin() as connection:
        check(connection, account_id=account_id, provider="retell")


def test_one_accounts_limit_is_not_anothers(database: Database, account_id: str) -> None:
    """Nor is what another has spent or holds back."""
    other = an_account(database)
    a_budget(database, other, "1", hard_limit=True)
    a_budget(database, account_id, "10", hard_limit=True)
    spend(database, other, "60")
    begin(database, account_id)


@pytest.mark.parametrize(
    ("session", "held"),
    [
        (("retell", "active", "24 hours", False), 10),
        (("retell", "active", "26 hours", False), 0),
        (("agora", "active", "72 hours", False), 10),
        (("agora", "active", "74 hours", False), 0),
        (("retell", "active", "2 hours", True), 0),
        (("retell", "pending", "1 hour", False), 10),
        (("retell", "pending", "3 hours", False), 0),
    ],
    ids=str,
)
def test_nothing_is_held_back_for_a_call_that_must_be_over(
    database: Database, account_id: str, session: tuple[str, str, str, bool], held: int
) -> None:
    """Nobody told of its end, and its provider was asked, or should have been."""
    provider, status, age, asked = session
    a_budget(database, account_id, "15", hard_limit=True)
    with database.begin() as connection:
        made = open_session(connection, account_id=account_id, provider=provider)
        grown = """UPDATE sessions SET status = :status, created_at = now() - CAST(:age AS interval),
                   asked_at = CASE WHEN :asked THEN now() END WHERE id = :id"""
        connection.execute(text(grown), {"status": status, "age": age, "asked": asked, "id": made.id})
        (standing,) = rules.standings(connection, [account_id], month_of(datetime.now(UTC)))
    assert standing.reserved == held
