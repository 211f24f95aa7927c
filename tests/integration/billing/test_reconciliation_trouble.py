"""Reconciliation when something is wrong: it keeps what is not touched by that from nobody, and loses nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text

from relay.reconciliation import fetching, stuck
from relay.reconciliation.mending import Mending
from relay.store import sessions
from relay.telemetry import logs
from tests.customers import Customer
from tests.integration.billing.called import (
    AGENT,
    HOOK,
    HOUR,
    World,
    ago,
    counted,
    list_of,
    one_customer,
    one_world,
    the_database,
    the_providers,
    the_settings,
)

__all__ = ["one_customer", "one_world", "the_database", "the_providers", "the_settings"]

OTHER_AGENT = "agent_of_another"
DAY = timedelta(days=1)
MINUTE = [("charge", Decimal("0.1"))]
# Before what a list that was never read begins with.
LONG_AGO = timedelta(days=6)
Alarms = list[tuple[str, str | None]]


@pytest.fixture
def alarms(monkeypatch: pytest.MonkeyPatch) -> Alarms:
    """What an operator is told, and of which account."""
    told: Alarms = []
    monkeypatch.setattr(logs, "alarm", lambda event, **fields: told.append((event, fields.get("account_id"))))
    return told


@pytest.fixture
def locked_out(world: World) -> Customer:
    """An account with an agent at Retell and a source whose secrets no key opens: `mended` opens them again."""
    customer = world.customer()
    customer.grant("retell", OTHER_AGENT)
    customer.endpoint(HOOK)
    customer.source("retell")
    world.grown_old()
    world.execute(
        "UPDATE sources SET sealed_secrets = '\\x00ff' || sealed_secrets WHERE account_id = :id", id=customer.id
    )
    world.client.flushdb()
    return customer


def mended(world: World, customer: Customer) -> None:
    world.execute(
        "UPDATE sources SET sealed_secrets = substr(sealed_secrets, 3) WHERE account_id = :id", id=customer.id
    )


def begun(world: World, customer: Customer, conversation_id: str, *, provider: str = "retell", hours: int = 30) -> None:
    """A session of a call that began so many hours ago, and of whose end nobody told."""
    with world.database.begin() as connection:
        made = sessions.create(connection, account_id=customer.id, provider=provider)
        sessions.begun(connection, account_id=customer.id, session_id=made.id, conversation_id=conversation_id)
        created = {"id": made.id, "hours": hours}
        connection.execute(
            text("UPDATE sessions SET created_at = now() - make_interval(hours => :hours) WHERE id = :id"), created
        )


def limited(times: int) -> Callable[[], bool]:
    """What is True so many times."""
    left = itertools.count()
    return lambda: next(left) < times


def test_an_account_that_cannot_be_read_keeps_no_other_waiting(
    world: World, customer: Customer, locked_out: Customer, alarms: Alarms
) -> None:
    """Its calls are counted as unmended, with one alarm, and are charged when somebody has mended it."""
    for _ in range(2):
        world.call(OTHER_AGENT, began=ago(5 * HOUR))
    world.call(AGENT, began=ago(4 * HOUR))
    report = world.reconciled()
    assert {one.outcome for one in report.lists} == {"done"}
    assert counted(report, "retell") == {"found": 1, "relayed": 1, "unmended": 2}
    assert (world.ledger(customer.id), world.ledger(locked_out.id)) == (MINUTE, [])
    assert alarms == [("account_unreadable", locked_out.id)]
    mended(world, locked_out)
    assert counted(world.reconciled(since=ago(6 * HOUR)), "retell") == {"found": 2, "relayed": 2}
    assert world.ledger(locked_out.id) == MINUTE * 2


def test_a_stuck_session_of_an_account_that_cannot_be_read_is_asked_for_later(
    world: World, customer: Customer, locked_out: Customer
) -> None:
    """It does not count as asked for, and the sessions of others do."""
    begun(world, locked_out, world.call(OTHER_AGENT, began=ago(LONG_AGO)), hours=31)
    begun(world, customer, world.call(AGENT, began=ago(LONG_AGO)))
    world.reconciled()
    assert (world.ledger(customer.id), world.ledger(locked_out.id)) == (MINUTE, [])
    mended(world, locked_out)
    assert world.reconciled().stuck.asked == 1
    assert world.ledger(locked_out.id) == MINUTE


@pytest.mark.parametrize("provider", ["elevenlabs", "retell"])
def test_what_nobody_expected_of_one_list_is_that_lists_alone(
    world: World, customer: Customer, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    """The others are read, and it is read again the next time."""
    world.call(AGENT, began=ago(HOUR))
    world.conversation(AGENT, began=ago(HOUR))
    page = Mending.page

    def surprised(self: Mending, source: Any, *given: Any, **named: Any) -> Any:
        if source.provider == provider:
            raise RuntimeError
        return page(self, source, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Mending, "page", surprised)
        outcomes = {one.provider: one.outcome for one in world.reconciled().lists}
    assert outcomes == {"elevenlabs": "done", "retell": "done", "agora": "done"} | {provider: "failed"}
    assert world.ledger(customer.id) == MINUTE
    assert counted(world.reconciled(), provider)["found"] == 1
    assert world.ledger(customer.id) == MINUTE * 2


class AfterThree(datetime):
    """A clock by which it is three in the morning at least: yesterday is compared from then on."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        real = datetime.now(tz)
        return max(real, real.replace(hour=3, minute=0, second=0, microsecond=0))


def test_a_clock_that_was_ahead_hides_no_call(
    world: World, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that was read to a moment in the future is read as if it never had been, and its days are compared."""
    monkeypatch.setattr("relay.reconciliation.reading.datetime", AfterThree)
    world.reconciled()
    world.execute(
        "UPDATE reconciliation_runs SET through = now() + interval '60 days', compared_through = now() + '60d'"
    )
    for span in (HOUR, 5 * HOUR, 25 * HOUR):
        world.call(AGENT, began=ago(span))
    list_of(world.reconciled(), "retell")
    assert world.ledger(customer.id) == MINUTE * 3
    with world.database.begin() as connection:
        runs = connection.execute(text("SELECT through, compared_through FROM reconciliation_runs")).all()
    now = AfterThree.now(UTC)
    assert all(run.through <= now and run.compared_through < now.date() for run in runs)


def test_a_provider_that_refuses_its_key_hides_no_other_s_stuck_sessions(
    world: World, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of its sessions are older."""
    monkeypatch.setattr(stuck, "MOST", 3)
    monkeypatch.setattr(stuck, "_PAGE", 2)
    for number in range(5):
        begun(world, customer, f"conv_{number}", provider="elevenlabs", hours=31)
    for _ in range(4):
        begun(world, customer, world.call(AGENT, began=ago(LONG_AGO)))
    world.elevenlabs.fail_next(401, times=99)
    assert world.reconciled().stuck.asked == 3
    assert world.reconciled().stuck.asked == 1
    assert world.ledger(customer.id) == MINUTE * 4


def test_a_session_at_which_asking_fails_hides_no_other(
    world: World, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for again the next time."""
    names = [world.call(AGENT, began=ago(LONG_AGO)) for _ in range(2)]
    for name in names:
        begun(world, customer, name)
    ask = fetching.fetched

    def surprised(access: Any, provider: str, conversation_id: str, **named: Any) -> Any:
        if conversation_id == names[0]:
            raise RuntimeError
        return ask(access, provider, conversation_id, **named)

    with monkeypatch.context() as patch:
        patch.setattr(stuck, "fetched", surprised)
        assert world.reconciled().stuck.asked == 1
    assert world.reconciled().stuck.asked == 1
    assert world.ledger(customer.id) == MINUTE * 2


@pytest.mark.parametrize("times", [1, 2, 3, 5])
def test_a_turn_ends_in_the_middle_of_a_page_when_it_is_to(world: World, customer: Customer, times: int) -> None:
    """What was mended stays, and the next turn mends the rest."""
    for _ in range(4):
        world.call(AGENT, began=ago(HOUR))
    report = world.reconciled(provider="retell", goes_on=limited(times))
    assert (list_of(report, "retell").outcome, report.stuck.asked) == ("postponed", 0)
    assert len(world.ledger(customer.id)) < 4
    world.reconciled(provider="retell")
    assert world.ledger(customer.id) == MINUTE * 4


def test_asking_for_stuck_sessions_ends_when_it_is_to(world: World, customer: Customer) -> None:
    """What was not asked for is asked for in the next turn."""
    begun(world, customer, world.call(AGENT, began=ago(LONG_AGO)))
    world.reconciled()
    begun(world, customer, world.call(AGENT, began=ago(LONG_AGO)))
    report = world.reconciled(goes_on=lambda: False)
    assert {one.outcome for one in report.lists} == {"postponed"}
    assert report.stuck.asked == 0
    assert world.reconciled().stuck.asked == 1


def test_a_session_whose_length_was_not_kept_has_it_again(world: World) -> None:
    """An earlier version kept no length of what it had no rate card for: without it no card would mend anything."""
    customer = world.customer(per_minute=None)
    customer.grant("retell", OTHER_AGENT)
    world.grown_old()
    world.call(OTHER_AGENT, began=ago(HOUR), seconds=60)
    world.reconciled()
    world.execute("UPDATE sessions SET duration_seconds = NULL")
    assert counted(world.reconciled(), "retell") == {"rated": 1, "unmended": 1}
    (session,) = world.sessions(customer.id)
    assert (session.unrated_reason, session.duration_seconds) == ("no_rate_card", 60)
    assert counted(world.reconciled(), "retell") == {}
