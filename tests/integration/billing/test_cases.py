"""What becomes of each odd case of a call's end, from a provider's words to session and ledger.

The cases are those that telecom rating engines and sellers of voice AI have met; each test is named after one.
"""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text

from billing.duration import SLACK_SECONDS
from relay.calls import TRUST_KEY, TRUST_PROVIDER, CallEvent, Facts, derived_session_id
from relay.providers import agora, canaryllm, elevenlabs, retell
from relay.store import sessions
from relay.store.database import Database
from tests.integration.billing.test_bills import a_template
from tests.integration.billing.told import (
    START_MS,
    an_account,
    ended,
    ledger_of,
    one_database,
    owed,
    tamper,
    the_session,
    violations,
    write,
)
from tests.payloads import agora_notification, elevenlabs_transcription, retell_event

# One for all tests here.
__all__ = ["one_database"]

DAY_SECONDS = 86_400
HOUR_MS = 3_600_000


def told(account_id: str, call: CallEvent, *, trust: int = TRUST_PROVIDER, accepted_at_ms: int | None = None) -> Facts:
    """A provider's event as it was accepted, an hour after the latest thing that it tells."""
    ending = call.ending
    latest = START_MS if ending is None else (ending.ended_at_ms or ending.started_at_ms or START_MS)
    return Facts(
        event_id="evt_1",
        account_id=account_id,
        call=call,
        session_id=call.session_hint or derived_session_id(account_id, call.provider, call.conversation_id),
        accepted_at_ms=accepted_at_ms or latest + HOUR_MS,
        trust=trust,
    )


def outcome(database: Database, event: Facts) -> tuple[str, str | None, Decimal | None]:
    """Status, reason and cost of the one session of an event's account; sums and usage agree with it."""
    write(database, event)
    session = the_session(database, event.account_id)
    assert violations(database, event.account_id) == []
    assert owed(database, event.account_id) == (session.cost or 0)
    return session.status, session.unrated_reason, session.cost


def retell_call(**call: Any) -> bytes:
    """`call_ended` of Retell with just these members, beside its id."""
    return json.dumps({"event": "call_ended", "call": {"call_id": "call_1", **call}}).encode()


def test_duration_missing(database: Database) -> None:
    """Absent is not zero: unrated, without a cost."""
    account_id = an_account(database)
    missing = ended(account_id, seconds=None)
    assert outcome(database, missing) == ("completed", "duration_missing", None)
    assert ledger_of(database, account_id) == []


def test_duration_of_zero_seconds(database: Database) -> None:
    """The provider's word that nothing was said costs nothing, and is a row that says so."""
    account_id = an_account(database)
    assert outcome(database, ended(account_id, seconds="0")) == ("completed", None, Decimal(0))
    (row,) = ledger_of(database, account_id)
    assert (row.amount, row.steps) == (Decimal(0), ["0 s costs nothing"])


@pytest.mark.parametrize("seconds", ["-1", "-0.001", "-1e300"])
def test_duration_negative(database: Database, seconds: str) -> None:
    """A clock that went back is no credit."""
    assert outcome(database, ended(an_account(database), seconds=seconds))[1:] == ("duration_negative", None)


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "1e9999999", "0x10", "12,5", "", "٣", "91 s"])
def test_duration_not_a_number(database: Database, seconds: str) -> None:
    """What JSON knows as no number is none here."""
    assert outcome(database, ended(an_account(database), seconds=seconds))[1:] == ("duration_invalid", None)


def test_duration_without_end(database: Database) -> None:
    """A number that only a mistake can write is longer than any call."""
    assert outcome(database, ended(an_account(database), seconds="1e9999"))[1:] == ("duration_too_long", None)


@pytest.mark.parametrize(("seconds", "reason"), [(DAY_SECONDS, None), (DAY_SECONDS + 1, "duration_too_long")])
def test_longer_than_24_hours(database: Database, seconds: int, reason: str | None) -> None:
    """A day is a call, a second more is an error in a clock or a unit."""
    assert outcome(database, ended(an_account(database), seconds=str(seconds)))[1] == reason


def a_limited_template(database: Database, account_id: str, *, seconds: int | None = 600) -> int:
    """A template whose agent we made, and gave a limit a day before the calls; None: the usual 600 s."""
    template_id = a_template(database, account_id, per_minute=None)
    config = "{}" if seconds is None else json.dumps({"maxDurationSeconds": seconds})
    with database.begin() as connection:
        since = datetime.fromtimestamp(START_MS / 1000, UTC) - timedelta(days=1)
        given = {"account": account_id, "id": template_id, "since": since, "config": config}
        connection.execute(
            text("UPDATE templates SET config = CAST(:config AS jsonb), updated_at = :since WHERE id = :id"), given
        )
        connection.execute(
            text(
                "INSERT INTO voice_agents (account_id, template_id, provider, agent_id, created_here, status, wanted,"
                " synced, updated_at) VALUES (:account, :id, 'elevenlabs', 'agent_1', true, 'synced', 1, 1, :since)"
            ),
            given,
        )
    return template_id


@pytest.mark.parametrize(
    ("limit", "seconds", "reason"),
    [
        (1800, 1800 + SLACK_SECONDS, None),  # providers hang up late
        (1800, 1800 + SLACK_SECONDS + 1, "duration_too_long"),
        (None, 600 + SLACK_SECONDS + 1, "duration_too_long"),  # what an agent is given when nothing is said
    ],
)
def test_longer_than_max_duration_and_slack(
    database: Database, limit: int | None, seconds: int, reason: str | None
) -> None:
    """Our agent would have hung up: what is told beyond that is nonsense."""
    account_id = an_account(database)
    template_id = a_limited_template(database, account_id, seconds=limit)
    event = ended(account_id, provider="elevenlabs", seconds=str(seconds), template_id=template_id)
    assert outcome(database, event)[1] == reason


@pytest.mark.parametrize("known_by", ["event", "session"])
def test_max_duration_is_that_of_the_sessions_template(database: Database, known_by: str) -> None:
    """Whether the event names the template or the session that was begun of it."""
    account_id = an_account(database)
    template_id = a_limited_template(database, account_id)
    session_id = None
    if known_by == "session":
        with database.begin() as connection:
            session_id = sessions.create(
                connection, account_id=account_id, provider="elevenlabs", template_id=template_id
            ).id
    event = ended(account_id, provider="elevenlabs", seconds="901", session_id=session_id,
                  template_id=template_id if known_by == "event" else None)  # fmt: skip
    assert outcome(database, event)[1] == "duration_too_long"


@pytest.mark.parametrize(
    "changed",
    [
        "UPDATE templates SET updated_at = now() + interval '10 years'",  # the limit changed during the call
        "UPDATE voice_agents SET updated_at = now() + interval '10 years'",  # and reached the agent only then
        "UPDATE voice_agents SET wanted = 2",  # or has not reached it yet
        "UPDATE voice_agents SET created_here = false",  # the customer's own agent is not ours to limit
    ],
)
def test_a_limit_that_the_agent_did_not_have_makes_no_call_free(database: Database, changed: str) -> None:
    """Nobody gets out of paying by lowering a limit: then the provider's word counts as ever."""
    account_id = an_account(database)
    template_id = a_limited_template(database, account_id)
    tamper(database, f"{changed} WHERE account_id = :account", account=account_id)
    event = ended(account_id, provider="elevenlabs", seconds="6000", template_id=template_id)
    assert outcome(database, event) == ("completed", None, Decimal(10))


@pytest.mark.parametrize("reason", ["dial_no_answer", "dial_busy", "dial_failed"])
@pytest.mark.parametrize("seconds", [None, 0])
def test_failed_busy_or_no_answer_without_duration(database: Database, reason: str, seconds: int | None) -> None:
    """Costs 0, and has failed."""
    members = {"call_status": "ended", "disconnection_reason": reason}
    timed = members if seconds is None else {**members, "duration_ms": seconds}
    account_id = an_account(database)
    assert outcome(database, told(account_id, retell.read(retell_call(**timed)))) == ("failed", None, Decimal(0))


def test_failed_initiation(database: Database) -> None:
    """ElevenLabs could not begin the call: nothing to pay."""
    body = json.dumps(
        {
            "type": "call_initiation_failure",
            "event_timestamp": START_MS // 1000,
            "data": {"agent_id": "agent_1", "conversation_id": "conv_1", "failure_reason": "busy"},
        }
    ).encode()
    account_id = an_account(database)
    assert outcome(database, told(account_id, elevenlabs.read(body))) == ("failed", None, Decimal(0))


def test_failed_with_a_duration(database: Database) -> None:
    """Providers bill it, and so do we."""
    event = ended(an_account(database), status="failed", seconds="60")
    assert outcome(database, event) == ("failed", None, Decimal("0.1"))


def test_failed_for_a_reason_of_ours_with_nothing_measured(database: Database) -> None:
    """A recording that could not be fetched needs no rate card to cost nothing; it has no row either."""
    account_id = an_account(database, per_minute=None)
    event = ended(account_id, provider="canonical", kind="recording", status="failed", seconds=None, code="unreachable")
    assert outcome(database, event) == ("failed", None, None)


def test_no_rate_card_in_force(database: Database) -> None:
    """Unrated, never 0; the duration is kept for when there is one."""
    account_id = an_account(database, per_minute=None)
    assert outcome(database, ended(account_id, seconds="60")) == ("completed", "no_rate_card", None)
    assert the_session(database, account_id).duration_seconds == 60


def test_session_that_never_completes(database: Database) -> None:
    """Abandoned without a cost; should its end be told after all, it is charged."""
    account_id = an_account(database)
    with database.begin() as connection:
        made = sessions.create(connection, account_id=account_id, provider="elevenlabs")
    tamper(
        database,
        "UPDATE sessions SET created_at = now() - interval '30 days' WHERE account_id = :account",
        account=account_id,
    )
    with database.begin() as connection:
        assert sessions.abandon(connection, limit=10) == 1
    session = the_session(database, account_id)
    assert (session.status, session.cost, session.unrated_reason) == ("abandoned", None, None)
    assert violations(database, account_id) == []
    late = ended(account_id, provider="elevenlabs", session_id=made.id, seconds="60")
    assert outcome(database, late) == ("completed", None, Decimal("0.1"))


@pytest.mark.parametrize("first", ["client", "provider"])
def test_client_reported_duration_is_never_the_base(database: Database, first: str) -> None:
    """What an account says itself stands only until the provider speaks, whichever comes first."""
    account_id = an_account(database)
    said = canaryllm.read(b'{"conversationId":"conv_1","durationSeconds":1}', route="complete", idempotency_key=None)
    client = told(account_id, said.call, trust=TRUST_KEY, accepted_at_ms=START_MS + 2 * HOUR_MS)
    provider = told(account_id, elevenlabs.read(elevenlabs_transcription("conv_1", seconds=60)))
    order = [client, provider] if first == "client" else [provider, client]
    for event in order:
        write(database, event)
    assert the_session(database, account_id).cost == owed(database, account_id) == Decimal("0.1")
    during = canaryllm.read(b'{"conversationId":"conv_1","durationSeconds":1}', route="event", idempotency_key=None)
    assert during.call.ending is None


@pytest.mark.parametrize(
    ("members", "seconds"),
    [
        ({"duration_ms": 21_522}, "21.522"),  # milliseconds
        (
            {"start_timestamp": START_MS, "end_timestamp": START_MS + 21_522},
            "21.522",
        ),  # the official sample has no more
        ({"duration_ms": 10_000, "start_timestamp": START_MS, "end_timestamp": START_MS + 60_000}, "10"),  # ringing
    ],
)
def test_retells_milliseconds_and_end_minus_start(database: Database, members: dict[str, int], seconds: str) -> None:
    """Its own duration before its times, both in milliseconds."""
    account_id = an_account(database)
    write(database, told(account_id, retell.read(retell_call(call_status="ended", **members))))
    (row,) = ledger_of(database, account_id)
    assert (row.duration_seconds, row.billed_seconds) == (float(seconds), -(-float(seconds) // 1))


def test_elevenlabs_whole_seconds(database: Database) -> None:
    """`call_duration_secs` is a number of seconds."""
    account_id = an_account(database)
    write(database, told(account_id, elevenlabs.read(elevenlabs_transcription("conv_1", seconds=22))))
    (row,) = ledger_of(database, account_id)
    assert (row.billed_seconds, row.amount) == (22, Decimal("0.036667"))


@pytest.mark.parametrize(("stop", "reason", "cost"), [(90, None, "0.15"), (-5, "duration_negative", None)])
def test_agoras_stop_minus_start(database: Database, stop: int, reason: str | None, cost: str | None) -> None:
    """Both in seconds."""
    start = START_MS // 1000
    body = agora_notification(
        102, {"agent_id": "agent_1", "start_ts": start, "stop_ts": start + stop, "status": "STOPPED"}
    )
    expected = None if cost is None else Decimal(cost)
    assert outcome(database, told(an_account(database), agora.read(body)))[1:] == (reason, expected)


@pytest.mark.parametrize("order", [("call_ended", "call_analyzed"), ("call_analyzed", "call_ended")])
def test_nothing_double_for_retells_two_terminal_events(database: Database, order: tuple[str, str]) -> None:
    """In either order, and though each of them comes with another event id."""
    account_id = an_account(database)
    for number, event in enumerate(order):
        body = retell_event(event, "call_1", seconds=91)
        write(database, told(account_id, retell.read(body), accepted_at_ms=1_794_999_900_000 + HOUR_MS + number))
    assert [row.amount for row in ledger_of(database, account_id)] == [Decimal("0.151667")]
    assert violations(database, account_id) == []


@pytest.mark.parametrize("first", ["audio", "transcription"])
def test_nothing_double_for_elevenlabs_transcription_and_audio(database: Database, first: str) -> None:
    """Audio ends nothing: it is never a bill."""
    audio = json.dumps(
        {"type": "post_call_audio", "event_timestamp": 1_795_000_000, "data": {"conversation_id": "conv_1"}}
    ).encode()
    assert elevenlabs.read(audio).ending is None
    account_id = an_account(database)
    write(database, told(account_id, elevenlabs.read(elevenlabs_transcription("conv_1"))))
    assert len(ledger_of(database, account_id)) == 1


@pytest.mark.parametrize("together", [True, False])
def test_replays(database: Database, together: bool) -> None:
    """The same event, however often, and however late."""
    account_id = an_account(database)
    event = ended(account_id)
    late = [ended(account_id, accepted_at_ms=event.accepted_at_ms + number * HOUR_MS) for number in range(5)]
    for batch in [late] if together else [[one] for one in late]:
        write(database, *batch)
    assert len(ledger_of(database, account_id)) == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_reversed_order(database: Database, order: tuple[int, ...]) -> None:
    """Whichever order events come in, the bill is the last word's of the most authoritative."""
    account_id = an_account(database)
    events = [
        ended(account_id, kind="call_ended", seconds="91"),
        ended(account_id, kind="call_analyzed", seconds="61", accepted_at_ms=START_MS + HOUR_MS + 1),
        ended(account_id, kind="call_analyzed", seconds="62", accepted_at_ms=START_MS + HOUR_MS + 2),
    ]
    for place in order:
        write(database, events[place])
    assert the_session(database, account_id).cost == owed(database, account_id) == Decimal("0.103333")
    assert violations(database, account_id) == []


@pytest.mark.parametrize(
    "start_ms",
    [
        START_MS // 1000,  # seconds where milliseconds were meant
        0,  # a clock that was never set
        START_MS * 1000,  # microseconds
    ],
)
def test_a_start_that_cannot_be(database: Database, start_ms: int) -> None:
    """It puts no call into a month that is long over, or that nobody will ever close; nor is end - start believed."""
    account_id = an_account(database)
    timed = ended(account_id, seconds="60", started_at_ms=start_ms, ended_at_ms=start_ms + 60_000)
    write(database, timed)
    session, (row,) = the_session(database, account_id), ledger_of(database, account_id)
    assert (session.cost, session.started_at) == (Decimal("0.1"), None)
    assert f"{row.period:%Y-%m}" == "2026-11"
    other = an_account(database)
    untold = ended(other, seconds=None, started_at_ms=start_ms, ended_at_ms=start_ms + 60)
    assert outcome(database, untold)[1:] == ("duration_missing", None)


def test_a_start_by_a_clock_that_is_ahead(database: Database) -> None:
    """How long the call lasted is measured all the same; which month it is in follows from when it was told."""
    account_id, ahead_ms = an_account(database), START_MS + 40 * 24 * HOUR_MS
    write(database, ended(account_id, seconds=None, started_at_ms=ahead_ms, ended_at_ms=ahead_ms + 60_000))
    session, (row,) = the_session(database, account_id), ledger_of(database, account_id)
    assert session.cost == Decimal("0.1")
    assert session.started_at == datetime.fromtimestamp(ahead_ms / 1000, UTC)
    assert f"{row.period:%Y-%m}" == "2026-11"


@pytest.mark.parametrize("cost", ["never", "UNREADABLE", "1e999999", "1e-999999"])
def test_a_providers_cost_that_is_no_amount(database: Database, cost: str) -> None:
    """It is not kept, and keeps nobody's bill waiting."""
    account_id = an_account(database)
    assert outcome(database, ended(account_id, seconds="60", cost_usd=cost))[1:] == (None, Decimal("0.1"))
    assert the_session(database, account_id).provider_cost_usd is None
