"""What Redis keeps of charged events: how much it takes, and that no event is refused for it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal

import pytest
import redis

from relay.calls import TRUST_SOURCE, CallEvent, Ending, Facts, derived_session_id, event_id
from relay.connections import redis_client as connect_redis
from relay.demo.embedded import EmbeddedRedis, Scratch, start_redis
from relay.errors import Unavailable
from relay.ingress.pressure import PressureGauge
from relay.outbox import Admission, Outbox, Room, Settlement, Unit, Verb, Verdict, charged, keys
from relay.outbox.charged import ChargedEvent
from relay.outbox.outcomes import encode_facts
from relay.planning import footprint
from relay.queues import BILLING
from relay.settings import MIB, Settings
from relay.store.ids import new_id
from tests.memory import allocator, held_bytes

EVENTS = 3_000
TOLERANCE = 0.07
HOUR_MS = 3_600_000
MAXMEMORY_MIB = 8
ACCOUNT, SOURCE, AGENT = new_id("acc"), new_id("src"), f"agent_{7:026}"
_names = itertools.count(1)


@pytest.fixture
def server(scratch: Scratch) -> Iterator[EmbeddedRedis]:
    """A small Redis of the test's own."""
    server = start_redis(scratch, name=f"charged_{next(_names)}", maxmemory_mib=MAXMEMORY_MIB)
    yield server
    server.stop()


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """A client of it, with the options of production; nothing here depends on fsync."""
    with connect_redis(Settings(database_url="", redis_url=server.url, keys="")) as client:
        client.config_set("appendfsync", "no")
        client.config_set("slowlog-log-slower-than", -1)
        yield client


def ended(number: int) -> ChargedEvent:
    """The end of a call as it is kept once it is charged; ids and times are as different as they are in life."""
    conversation = f"call_{os.urandom(13).hex()}"
    began_ms = 1_794_999_900_000 + number * 1_371
    call = CallEvent(
        provider="retell",
        kind="call_analyzed",
        event_class="complete",
        conversation_id=conversation,
        agent_id=AGENT,
        occurred_at_ms=began_ms + 91_000,
        ending=Ending(
            status="completed",
            duration_seconds=f"{number % 300}.{number % 1000:03}",
            started_at_ms=began_ms,
            ended_at_ms=began_ms + 91_000,
            provider_cost_usd=f"0.{number % 1000:03}",
        ),
    )
    session_id = derived_session_id(ACCOUNT, "retell", conversation)
    facts = Facts(
        event_id=event_id(ACCOUNT, "retell", SOURCE, (conversation,)),
        account_id=ACCOUNT,
        call=call,
        session_id=session_id,
        accepted_at_ms=began_ms + 91_500,
        source_id=SOURCE,
        template_id=17,
        template_name="Sales",
        trust=TRUST_SOURCE,
    )
    return ChargedEvent(
        event_id=facts.event_id,
        account_id=ACCOUNT,
        facts=encode_facts(facts),
        session_id=session_id,
        template_id=17,
        amount=Decimal(number % 997) / 1_000_000,
    )


def keep(outbox: Outbox, events: Sequence[ChargedEvent], *, at_once: int) -> None:
    """Keep these, so many at once, as the billing lane does with what it settles."""
    for first in range(0, len(events), at_once):
        batch = charged.encoded(events[first : first + at_once])
        outbox.settle_charged([], batch, keep_ms=72 * HOUR_MS)


@pytest.mark.parametrize("at_once", [1, 10, 256])
def test_a_charged_event_takes_what_the_plan_says(client: redis.Redis, at_once: int) -> None:
    """Within 7 %, whether they are charged one by one or in full batches."""
    outbox, events = Outbox(client), [ended(number) for number in range(EVENTS)]
    keep(outbox, events[:1], at_once=1)  # loads the scripts
    empty = held_bytes(client)
    keep(outbox, events, at_once=at_once)
    grown = (held_bytes(client) - empty) / EVENTS
    planned = footprint.charged_bytes(at_once=at_once, allocator=allocator(client))
    assert grown == pytest.approx(planned, rel=TOLERANCE)


def test_what_is_kept_is_read_again(client: redis.Redis) -> None:
    """In order, from a moment on, up to what was there when the reading began."""
    outbox, events = Outbox(client), [ended(number) for number in range(600)]
    keep(outbox, events, at_once=7)
    reading = charged.read(client, since_ms=0)
    first = next(reading)
    keep(outbox, [ended(601)], at_once=1)
    batches = [first, *reading]
    assert [event for batch in batches for event in batch.events or ()] == events
    assert charged.reaches_back_to(client) == first.at_ms
    later = batches[-1].at_ms
    assert [batch.at_ms >= later for batch in charged.read(client, since_ms=later)] != []
    assert all(batch.at_ms >= later for batch in charged.read(client, since_ms=later))


def test_nothing_to_read_is_nothing(client: redis.Redis) -> None:
    """The stream is not there at all."""
    assert list(charged.read(client, since_ms=0)) == []
    assert charged.reaches_back_to(client) is None


def test_what_is_over_age_goes_with_what_comes(client: redis.Redis) -> None:
    """Whole nodes of the stream, with every batch that is appended."""
    pipeline = client.pipeline(transaction=False)
    for number in range(1, 501):
        pipeline.xadd(keys.CHARGED, {b"b": b"old"}, id=f"{number}-1")
    pipeline.execute()
    keep(Outbox(client), [ended(1)], at_once=1)
    assert client.xlen(keys.CHARGED) <= 101
    charged.forget(client, older_than=timedelta(hours=72))
    assert client.xlen(keys.CHARGED) == 1


def filled(client: redis.Redis, share: float) -> None:
    """Keep charged events until Redis has used such a share of its memory."""
    outbox, number = Outbox(client), 0
    while client.info("memory")["used_memory"] < MAXMEMORY_MIB * MIB * share:
        keep(outbox, [ended(number + more) for more in range(200)], at_once=20)
        number += 200


def test_no_event_is_refused_for_what_is_kept(client: redis.Redis) -> None:
    """Before memory is so short, the oldest half goes, and again if that is not enough; the newest stay."""
    filled(client, 0.9)
    newest = ended(0)
    keep(Outbox(client), [newest], at_once=1)
    before = client.xlen(keys.CHARGED)
    gauge = PressureGauge(client)
    gauge.look()
    gauge.check()
    assert 0 < client.xlen(keys.CHARGED) <= before // 2 + 1
    *_, last = charged.read(client, since_ms=0)
    assert last.events == [newest]


def test_nothing_is_dropped_while_there_is_room(client: redis.Redis) -> None:
    """A Redis that is used for three quarters is well."""
    filled(client, 0.75)
    before = client.xlen(keys.CHARGED)
    PressureGauge(client).look()
    assert client.xlen(keys.CHARGED) == before


def test_memory_that_others_use_costs_all_that_is_kept(client: redis.Redis) -> None:
    """Then events are refused for them, and for nothing else."""
    keep(Outbox(client), [ended(number) for number in range(100)], at_once=10)
    for number in range(20):
        client.set(f"other_{number}", os.urandom(MIB // 4))
    client.config_set("maxmemory", "6mb")
    gauge = PressureGauge(client)
    gauge.look()
    assert client.xlen(keys.CHARGED) == 0
    with pytest.raises(Unavailable):
        gauge.check()


def test_a_full_redis_settles_charges_all_the_same(client: redis.Redis) -> None:
    """A lane that could not settle would charge the same calls for ever."""
    outbox = Outbox(client)
    admission = Admission("evt_1", ACCOUNT, b"facts", b"", HOUR_MS, HOUR_MS, 1 << 30, (Unit(BILLING, ACCOUNT),))
    assert outbox.accept([admission]).verdicts == (Verdict.NEW,)
    client.set("other", os.urandom(2 * MIB))
    client.config_set("maxmemory", "2mb")
    (unit,) = outbox.claim(BILLING, Room(1), alone=True, content=False).units
    batch = charged.encoded([ended(1)])
    assert outbox.settle_charged([Settlement(unit, Verb.DONE)], batch, keep_ms=HOUR_MS) == ["ok"]
    assert outbox.audit(BILLING).waiting == outbox.audit(BILLING).in_flight == 0
