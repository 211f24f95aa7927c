"""The figures that `switchhook plan` counts with, measured again: memory and append-only file of events that wait."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from relay.calls import CallEvent, Ending, Facts, derived_session_id, event_id
from relay.connections import redis_client as connect_redis
from relay.demo.embedded import EmbeddedRedis, Scratch, start_redis
from relay.outbox import Admission, GateVerdict, Outbox, Room, Settlement, Unit, Verb, Verdict
from relay.outbox.outcomes import OutcomeReader, encode_facts
from relay.planning import footprint
from relay.queues import BILLING, RELAY
from relay.sealing import KeyRing, seal_event
from relay.settings import Settings
from relay.store.ids import new_id
from tests.memory import allocator, held_bytes
from tests.waiting import eventually

EVENTS = 3_000
GROUP = 100
# Hash tables double as they fill, and facts are shorter or longer.
TOLERANCE = 0.07
RING = KeyRing("a passphrase for tests only, long enough to be taken")
HOUR_MS = 3_600_000
_names = itertools.count(1)


@pytest.fixture
def server(scratch: Scratch) -> Iterator[EmbeddedRedis]:
    """A Redis of the test's own, without rewrites: their buffers count as used memory."""
    server = start_redis(scratch, name=f"footprint_{next(_names)}")
    yield server
    server.stop()


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """A client of it, with the options of production; what is measured does not depend on fsync."""
    with connect_redis(Settings(database_url="", redis_url=server.url, keys="")) as client:
        client.config_set("auto-aof-rewrite-percentage", 0)
        client.config_set("appendfsync", "no")
        # On a busy machine some commands are slow; the log of those would be counted as what events leave.
        client.config_set("slowlog-log-slower-than", -1)
        yield client


def appended(client: redis.Redis) -> int:
    """The size of the append-only file."""
    return int(client.info("persistence")["aof_current_size"])


def admit(outbox: Outbox, *, payload_bytes: int, endpoints: list[str]) -> None:
    """Ends of calls, as a provider's webhooks become them."""
    account_id, source_id, body = new_id("acc"), new_id("src"), os.urandom(payload_bytes)
    units = (*(Unit(RELAY, endpoint) for endpoint in endpoints), Unit(BILLING, account_id))
    for first in range(0, EVENTS, GROUP):
        group = [admission(number, account_id, source_id, body, units) for number in range(first, first + GROUP)]
        assert set(outbox.accept(group).verdicts) == {Verdict.NEW}


def admission(number: int, account_id: str, source_id: str, body: bytes, units: tuple[Unit, ...]) -> Admission:
    """One of them."""
    call = CallEvent(
        provider="retell",
        kind="call_analyzed",
        event_class="complete",
        conversation_id=f"call_{number:027}",
        dedupe=("call_analyzed", f"call_{number:027}"),
        agent_id=f"agent_{7:026}",
        occurred_at_ms=1_794_999_991_000,
        ending=Ending(
            status="completed",
            duration_seconds="91.000",
            started_at_ms=1_794_999_900_000,
            ended_at_ms=1_794_999_991_000,
            provider_cost_usd="0.123",
        ),
    )
    identity = event_id(account_id, call.provider, source_id, call.dedupe)
    facts = Facts(
        event_id=identity,
        account_id=account_id,
        call=call,
        session_id=derived_session_id(account_id, call.provider, call.conversation_id),
        accepted_at_ms=1_794_999_991_500,
        source_id=source_id,
    )
    sealed = seal_event(RING, body, event_id=identity, account_id=account_id)
    return Admission(
        identity, account_id, encode_facts(facts), sealed, 96 * HOUR_MS, 95 * HOUR_MS, 10**9, units, config_version=0
    )


def record(client: redis.Redis) -> None:
    """Take every outcome off the stream, as the record lane does."""
    reader = OutcomeReader(client, consumer="test")
    reader.read(most=1)  # makes its group
    while entries := reader.read(most=500):
        reader.done([entry.stream_id for entry in entries])


def settle(outbox: Outbox, lane: str) -> None:
    """Bring a lane to its end."""
    while units := outbox.claim(lane, Room(units=256), alone=True, content=False).units:
        outbox.settle(lane, [Settlement(unit, Verb.DONE, gate=GateVerdict.OK) for unit in units])


def calmed(client: redis.Redis) -> int:
    """The memory once Redis has freed what it frees by and by: twice the same, and no table moves into a larger one."""
    seen: list[int] = []

    def is_calm() -> bool:
        seen.append(held_bytes(client))
        tables: Any = client.execute_command("DEBUG", "HTSTATS", 0)  # type: ignore[no-untyped-call]  # redis-py has none
        moves = b"rehashing target" in tables  # both are held until then
        return not moves and len(seen) > 1 and abs(seen[-1] - seen[-2]) < EVENTS

    eventually(is_calm, within_seconds=30, what="a memory that stays the same")
    return seen[-1]


@pytest.mark.parametrize(("payload_bytes", "count"), [(200, 3), (4_096, 1)])
def test_an_event_takes_what_the_plan_says(client: redis.Redis, payload_bytes: int, count: int) -> None:
    """Unrecorded, waiting, settled: per event within 7 %, from the first accept to the marker that is left."""
    outbox = Outbox(client)
    endpoints = [new_id("ep") for _ in range(count)]
    outbox.accept([])  # loads the script
    empty, file_empty = calmed(client), appended(client)

    def per_event(value: int) -> float:
        return value / EVENTS

    admit(outbox, payload_bytes=payload_bytes, endpoints=endpoints)
    accepted, file_accepted = calmed(client), appended(client)
    record(client)
    settle(outbox, BILLING)
    waiting = calmed(client)
    settle(outbox, RELAY)
    left = calmed(client)

    size: dict[str, Any] = {"endpoints": count, "allocator": allocator(client)}
    planned = footprint.waiting_bytes(payload_bytes, **size)
    # No attempt was made yet: of what is to be recorded, the attempts' entries are missing.
    unrecorded = footprint.unrecorded_bytes(endpoints=count) - count * footprint._ATTEMPT_ENTRY_BYTES
    assert per_event(waiting - empty) == pytest.approx(planned, rel=TOLERANCE)
    assert per_event(accepted - empty) == pytest.approx(planned + unrecorded, rel=TOLERANCE)
    assert per_event(left - empty) == pytest.approx(footprint.MARKER_BYTES, rel=4 * TOLERANCE)
    # Of its life in the file, the first part; the rest follows from the lanes, which are not at work here.
    first = footprint.sealed_bytes(payload_bytes) + 1_375 + count * footprint._APPENDED_UNIT_BYTES
    assert per_event(file_accepted - file_empty) == pytest.approx(first, rel=TOLERANCE)
