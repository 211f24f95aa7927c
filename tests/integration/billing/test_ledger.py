"""Sessions and charges on a real Postgres: once, in any order, by any number of processes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from sqlalchemy import text

from billing.ledger import charge
from relay.calls import (
    TRUST_KEY,
    TRUST_PROVIDER,
    TRUST_SOURCE,
    CallEvent,
    Ending,
    Facts,
    derived_session_id,
)
from relay.errors import Conflict
from relay.sealing import KeyRing
from relay.store import accounts, charges, rate_cards, sessions, templates
from relay.store.charges import Charge
from relay.store.database import Database
from relay.store.sessions import Session

START_MS = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
def account_id(database: Database) -> str:
    """An account at 0.10 USD a minute."""
    with database.begin() as connection:
        account = accounts.create(connection, name="Acme").id
        rate_cards.add(connection, account, per_minute=Decimal("0.10"))
    return account


def ended(
    account_id: str,
    conversation_id: str = "call_1",
    *,
    kind: str = "call_ended",
    seconds: str | None = "91",
    provider: str = "retell",
    session_id: int | None = None,
    accepted_at_ms: int = START_MS,
    cost_usd: str | None = None,
    turns: int | None = None,
    trust: int = TRUST_SOURCE,
) -> Facts:
    """The facts of a terminal event, from a source of the account's own unless its `trust` is another."""
    call = CallEvent(
        provider=provider,
        kind=kind,
        event_class="event",
        conversation_id=conversation_id,
        dedupe=(kind, conversation_id),
        ending=Ending(
            status="completed",
            duration_seconds=seconds,
            started_at_ms=START_MS,
            provider_cost_usd=cost_usd,
            turns=turns,
        ),
    )
    return Facts(
        event_id="evt_1",
        account_id=account_id,
        call=call,
        session_id=session_id or derived_session_id(account_id, provider, conversation_id),
        accepted_at_ms=accepted_at_ms,
        trust=trust,
    )


def write(database: Database, *events: Facts) -> None:
    """Charge events as one batch."""
    with database.begin() as connection:
        charge(connection, events)


def rows(database: Database, account_id: str) -> tuple[list[Session], list[Charge]]:
    """The account's sessions and ledger, oldest first."""
    with database.begin() as connection:
        found = sessions.page(connection, account_id=account_id), charges.page(connection, account_id=account_id)
    return found[0][::-1], found[1][::-1]


def net(ledger: Sequence[Charge]) -> Decimal:
    """What the account pays."""
    return sum((row.amount for row in ledger), Decimal(0))


def test_writes_session_and_charge_with_frozen_inputs(database: Database, account_id: str) -> None:
    """One event makes one completed session and one row that explains its amount."""
    write(database, ended(account_id, cost_usd="0.07"))
    (session,), (row,) = rows(database, account_id)
    assert (session.status, session.cost, session.billed_seconds) == ("completed", Decimal("0.151667"), 91)
    assert session.provider_cost_usd == Decimal("0.07")
    assert (row.amount, row.unit_price, row.billed_seconds) == (Decimal("0.151667"), Decimal("0.10"), 91)
    assert row.rate_card_id == session.rate_card_id
    assert row.steps[-1].endswith("0.151667")


@pytest.mark.parametrize("told", [(7, None), (None, 7), (7,)])
def test_session_keeps_how_many_turns_were_told(
    database: Database, account_id: str, told: tuple[int | None, ...]
) -> None:
    """Whichever of its terminal events says so; one that says nothing takes nothing away."""
    for number, turns in enumerate(told):
        write(database, ended(account_id, turns=turns, accepted_at_ms=START_MS + number))
    (session,), _ = rows(database, account_id)
    assert session.turn_count == 7


def a_template_with_a_card(database: Database, account_id: str, *, per_minute: int) -> tuple[int, str]:
    """A template that has chosen a rate card of its own."""
    ring = KeyRing("a passphrase for tests only, long enough to be taken")
    with database.begin() as connection:
        card = rate_cards.add(connection, account_id, per_minute=Decimal(per_minute), offered=True)
        template = templates.create(
            connection,
            ring,
            account_id=account_id,
            name="T",
            type="conversation",
            config={},
            rate_card_id=card.id,
        ).template
    return template.id, card.id


@pytest.mark.parametrize("named_by", ["event", "session"])
def test_a_templates_card_comes_before_the_accounts(database: Database, account_id: str, named_by: str) -> None:
    """Whether the event names the template, or only the session that was started of it; the row freezes its price."""
    template_id, card_id = a_template_with_a_card(database, account_id, per_minute=6)
    event = ended(account_id, seconds="60")
    if named_by == "event":
        event = msgspec.structs.replace(event, template_id=template_id)
    else:
        with database.begin() as connection:
            started = sessions.create(connection, account_id=account_id, provider="retell", template_id=template_id)
        event = msgspec.structs.replace(event, session_id=started.id)
    write(database, event, ended(account_id, "call_2", seconds="60"))
    found, ledger = rows(database, account_id)
    session, other = sorted(found, key=lambda one: one.conversation_id or "")
    assert (session.cost, session.rate_card_id, session.template_id) == (Decimal(6), card_id, template_id)
    assert other.cost == Decimal("0.1")
    assert {(row.conversation_id, row.rate_card_id, row.unit_price, row.template_id) for row in ledger} == {
        ("call_1", card_id, Decimal(6), template_id),
        ("call_2", other.rate_card_id, Decimal("0.1"), None),
    }


def test_another_accounts_card_is_never_used(database: Database, account_id: str) -> None:
    """A number in an event is no proof of a template."""
    template_id, _ = a_template_with_a_card(database, account_id, per_minute=6)
    with database.begin() as connection:
        other = accounts.create(connection, name="Other").id
        rate_cards.add(connection, other, per_minute=Decimal(1))
    write(database, msgspec.structs.replace(ended(other, seconds="60"), template_id=template_id))
    (session,), _ = rows(database, other)
    assert session.cost == Decimal(1)


def test_repeat_of_an_event_charges_nothing_more(database: Database, account_id: str) -> None:
    """A claim that was charged and not settled is charged again without effect."""
    for _ in range(3):
        write(database, ended(account_id))
    assert len(rows(database, account_id)[1]) == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("together", [True, False])
def test_any_order_of_terminal_events_gives_the_same_bill(
    database: Database, account_id: str, order: tuple[int, ...], together: bool
) -> None:
    """Two differing terminal events and a repeat, in one batch or in three, end at the analysis' duration."""
    events = [
        ended(account_id, kind="call_ended", seconds="91"),
        ended(account_id, kind="call_analyzed", seconds="61", accepted_at_ms=START_MS + 10),
        ended(account_id, kind="call_ended", seconds="91"),
    ]
    shuffled = [events[place] for place in order]
    for batch in [shuffled] if together else [[event] for event in shuffled]:
        write(database, *batch)
    (session,), ledger = rows(database, account_id)
    assert net(ledger) == Decimal("0.101667")
    assert session.cost == Decimal("0.101667")
    assert session.charge_sequence == max(row.sequence for row in ledger if row.kind == "charge")


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
@pytest.mark.parametrize("together", [True, False])
def test_forged_ends_never_change_what_the_provider_told(
    database: Database, account_id: str, order: tuple[int, ...], together: bool
) -> None:
    """The account may sign with its own sources, secrets and keys what it likes, before, after or in one batch."""
    events = [
        ended(account_id, kind="call_ended", seconds="3600", trust=TRUST_PROVIDER),
        ended(account_id, kind="call_analyzed", seconds="3601", accepted_at_ms=START_MS + 1, trust=TRUST_PROVIDER),
        ended(account_id, kind="call_analyzed", seconds="0", accepted_at_ms=START_MS + 60_000, trust=TRUST_SOURCE),
        ended(account_id, kind="call_analyzed", seconds="1", accepted_at_ms=START_MS + 90_000, trust=TRUST_KEY),
    ]
    shuffled = [events[place] for place in order]
    for batch in [shuffled] if together else [[event] for event in shuffled]:
        write(database, *batch)
    (session,), ledger = rows(database, account_id)
    assert net(ledger) == session.cost == Decimal("6.001667")


@pytest.mark.parametrize(("trust", "cost"), [(TRUST_SOURCE, "0.151667"), (TRUST_PROVIDER, "0")])
def test_a_bill_of_before_trust_was_written_down_is_the_providers_to_change(
    database: Database, account_id: str, trust: int, cost: str
) -> None:
    """A version that knew of none has written it: then its charge is not to be had for a signature of the account's."""
    write(database, ended(account_id, kind="call_analyzed", trust=TRUST_KEY))
    with database.begin() as connection:
        connection.execute(text("UPDATE sessions SET terminal_trust = NULL"))
    later = ended(account_id, kind="call_analyzed", seconds="0", accepted_at_ms=START_MS + 1, trust=trust)
    write(database, later)
    assert net(rows(database, account_id)[1]) == Decimal(cost)


def test_a_recording_is_charged_once_however_often_its_call_is_handed_in(database: Database, account_id: str) -> None:
    """A shorter file under the same call id takes nothing back."""
    for number, seconds in enumerate(("60", "0.001", "7200")):
        later_ms = START_MS + number * 48 * 3_600_000
        told = ended(account_id, kind="recording", provider="canonical", seconds=seconds, accepted_at_ms=later_ms)
        write(database, told)
    (session,), ledger = rows(database, account_id)
    assert [row.amount for row in ledger] == [session.cost] == [Decimal("0.1")]


def test_one_conversation_of_two_accounts_is_two_sessions(database: Database, account_id: str) -> None:
    """Another account's event with the same conversation id neither sees nor changes this one's."""
    with database.begin() as connection:
        other = accounts.create(connection, name="Mallory").id
        rate_cards.add(connection, other, per_minute=Decimal(9))
    mine = ended(account_id)
    write(database, mine)
    write(database, ended(other, seconds="1", session_id=mine.session_id))
    assert [row.amount for row in rows(database, account_id)[1]] == [Decimal("0.151667")]
    (theirs,), ledger = rows(database, other)
    assert theirs.account_id == other
    assert [row.amount for row in ledger] == [Decimal("0.15")]


def test_duplicates_in_a_batch_never_fail_the_others(database: Database, account_id: str) -> None:
    """A batch with repeats and new calls charges each call once."""
    write(database, ended(account_id, "a"))
    write(database, *[ended(account_id, name) for name in "aabbcaabc"])
    assert sorted(row.conversation_id for row in rows(database, account_id)[1]) == ["a", "b", "c"]


def test_unrated_session_says_why_and_can_be_rated_later(database: Database, account_id: str) -> None:
    """A missing duration leaves the cost open; a later event with one rates the session."""
    write(database, ended(account_id, kind="call_analyzed", seconds="soon"))
    (session,), ledger = rows(database, account_id)
    assert (session.unrated_reason, session.cost, ledger) == ("duration_invalid", None, [])
    write(database, ended(account_id, kind="call_ended", seconds="60"))
    (session,), ledger = rows(database, account_id)
    assert (session.unrated_reason, session.cost) == (None, Decimal("0.1"))
    assert len(ledger) == 1


def test_session_of_the_api_is_completed_in_place(database: Database, account_id: str) -> None:
    """The event that names a pending session gives it its conversation and its cost."""
    with database.begin() as connection:
        pending = sessions.create(connection, account_id=account_id, provider="elevenlabs", metadata={"seat": 7})
    write(database, ended(account_id, "conv", provider="elevenlabs", session_id=pending.id))
    (session,), ledger = rows(database, account_id)
    assert (session.id, session.conversation_id, session.metadata) == (pending.id, "conv", {"seat": 7})
    assert [row.session_id for row in ledger] == [pending.id]


@pytest.mark.parametrize("second_name", ["second", "session-0"])
def test_second_conversation_under_one_session_id_is_charged_too(
    database: Database, account_id: str, second_name: str
) -> None:
    """A session id that is used twice does not block the second call: it becomes a session of its own."""
    with database.begin() as connection:
        pending = sessions.create(connection, account_id=account_id, provider="elevenlabs")
    for conversation in ("first", second_name):
        write(database, ended(account_id, conversation, provider="elevenlabs", session_id=pending.id))
    found, ledger = rows(database, account_id)
    assert len(found) == len(ledger) == 2
    second = derived_session_id(account_id, "elevenlabs", second_name)
    assert {session.id for session in found} == {pending.id, second}


@pytest.mark.parametrize("first", ["named", "unnamed"])
@pytest.mark.parametrize("together", [True, False])
def test_event_that_names_only_its_session_is_charged_with_its_conversation(
    database: Database, account_id: str, first: str, together: bool
) -> None:
    """/complete with a sessionId and the signed webhook of that session are one bill, in any order."""
    with database.begin() as connection:
        pending = sessions.create(connection, account_id=account_id, provider="elevenlabs")
    named = ended(account_id, "conv_1", kind="post_call_transcription", provider="elevenlabs", session_id=pending.id)
    unnamed = ended(account_id, f"session-{pending.id}", kind="complete", provider="elevenlabs", session_id=pending.id)
    order = [named, unnamed] if first == "named" else [unnamed, named]
    for batch in [order] if together else [[event] for event in order]:
        write(database, *batch)
    found, ledger = rows(database, account_id)
    assert len(found) == 1
    assert net(ledger) == Decimal("0.151667")


def test_processes_that_charge_one_call_at_once_charge_it_once(database: Database, account_id: str) -> None:
    """Eight threads with the same new calls: whoever loses tries again and finds them charged."""
    events = [ended(account_id, f"call_{number}") for number in range(20)]
    barrier = threading.Barrier(8)

    def compete() -> None:
        barrier.wait()
        for _ in range(20):
            try:
                write(database, *events)
            except Conflict:
                continue
            return

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found, ledger = rows(database, account_id)
    assert len(found) == len(ledger) == len(events)


def test_sum_of_charges_is_the_sum_of_rated_sessions(database: Database, account_id: str) -> None:
    """The invariant that production checks, after corrections, repeats and unrated calls."""
    for number in range(30):
        write(database, ended(account_id, f"c{number}", seconds=str(number * 7)))
        if number % 3 == 0:
            write(database, ended(account_id, f"c{number}", kind="call_analyzed", seconds=str(number * 5)))
        if number % 4 == 0:
            write(database, ended(account_id, f"u{number}", seconds="never"))
    with database.begin() as connection:
        charged = connection.execute(text("SELECT sum(amount) FROM ledger")).scalar_one()
        rated = connection.execute(text("SELECT sum(cost) FROM sessions")).scalar_one()
        unrated = connection.execute(text("SELECT count(*) FROM sessions WHERE cost IS NULL")).scalar_one()
    assert charged == rated
    assert unrated == 8
