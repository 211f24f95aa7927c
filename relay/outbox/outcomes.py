"""The outcomes stream: what was accepted and what became of each attempt, on its way to Postgres. Metadata only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec
import redis
from msgspec.structs import force_setattr, replace
from redis.exceptions import ResponseError

from relay.calls import Facts
from relay.connections import answered
from relay.outbox import keys

_GROUP: Final = "record"
# An entry that its reader has not acknowledged for this long is read by another one.
_ABANDONED_MS: Final = 10_000

DeliveryStatus = Literal["pending", "delivered", "dead", "content_lost"]


class AttemptOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={
    "event_id": "i", "endpoint_id": "e", "account_id": "a", "accepted_ms": "t", "number": "n", "status": "s",
    "attempted": "x", "code": "c", "detail": "d", "http_status": "h", "duration_ms": "m", "response_bytes": "b",
    "retry_in_ms": "r",
}):  # fmt: skip
    """What one settle made of a delivery.

    `number` is the attempt it speaks of, `attempted` whether a request was made at all. `code` is what tenants see,
    `detail` what operators see; neither holds text from the other side.
    """

    event_id: str
    endpoint_id: str
    account_id: str
    accepted_ms: int
    number: int
    status: DeliveryStatus
    attempted: bool = True
    code: str | None = None
    detail: str | None = None
    http_status: int | None = None
    duration_ms: int | None = None
    response_bytes: int | None = None
    retry_in_ms: int | None = None


class AcceptedOutcome(NamedTuple):
    """An event that was committed, with the endpoints it goes to."""

    facts: Facts
    endpoint_ids: tuple[str, ...]
    size_bytes: int


class StreamEntry(NamedTuple):
    """One entry; its id orders it and tells when (ms since 1970, Redis' clock)."""

    stream_id: str
    outcome: AcceptedOutcome | AttemptOutcome

    @property
    def at_ms(self) -> int:
        return int(self.stream_id.partition("-")[0])


class UnreadableEntry(NamedTuple):
    """An entry that this version of the code cannot decode."""

    stream_id: str


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_facts: Final = msgspec.msgpack.Decoder(Facts).decode
encode_outcome: Final = _encode
_decode_outcome: Final = msgspec.msgpack.Decoder(AttemptOutcome).decode


def encode_facts(facts: Facts) -> bytes:
    """Facts as the outbox keeps them.

    Without the ids, which it has besides, the key that the id was made of, and what served at the door alone.
    """
    call = replace(facts.call, dedupe=(), account_hint=None, template_hint=None, sent_at_ms=None)
    return _encode(replace(facts, event_id="", account_id="", call=call))


def decode_facts(kept: bytes, *, event_id: str, account_id: str) -> Facts:
    """Whole facts again. Raises msgspec.MsgspecError."""
    facts = _decode_facts(kept)
    # Nobody has seen them yet; a copy would cost more than the decoding.
    force_setattr(facts, "event_id", event_id)
    force_setattr(facts, "account_id", account_id)
    return facts


class OutcomeReader:
    """Reads the stream as one consumer of the group `record`; what it acknowledges is deleted."""

    def __init__(self, client: redis.Redis, *, consumer: str) -> None:
        self._client = client
        self._consumer = consumer

    def read(self, *, most: int, abandoned: bool = False) -> list[StreamEntry | UnreadableEntry]:
        """New entries, or those that another reader left behind. Raises Unavailable."""
        with answered():
            try:
                entries = self._abandoned(most) if abandoned else self._new(most)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                self._create_group()
                return []
        return [_entry(stream_id.decode(), fields) for stream_id, fields in entries if fields]

    def done(self, stream_ids: Sequence[str]) -> None:
        """Acknowledge and delete entries that are in Postgres. Raises Unavailable."""
        if not stream_ids:
            return
        with answered():
            pipeline = self._client.pipeline(transaction=True)
            pipeline.xack(keys.OUTCOMES, _GROUP, *stream_ids)
            pipeline.xdel(keys.OUTCOMES, *stream_ids)
            pipeline.execute()

    def _new(self, most: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        reply: Any = self._client.xreadgroup(_GROUP, self._consumer, {keys.OUTCOMES: ">"}, count=most)
        return reply[0][1] if reply else []

    def _abandoned(self, most: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        reply: Any = self._client.xautoclaim(keys.OUTCOMES, _GROUP, self._consumer, _ABANDONED_MS, "0-0", count=most)
        entries: list[tuple[bytes, dict[bytes, bytes]]] = reply[1]
        return entries

    def _create_group(self) -> None:
        try:
            self._client.xgroup_create(keys.OUTCOMES, _GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise


def backlog(client: redis.Redis) -> tuple[int, int]:
    """How many entries wait to be recorded, and for how many milliseconds the oldest has. Raises Unavailable."""
    with answered():
        pipeline = client.pipeline(transaction=True)
        pipeline.xlen(keys.OUTCOMES)
        pipeline.xrange(keys.OUTCOMES, count=1)
        pipeline.time()
        waiting, oldest, (seconds, microseconds) = pipeline.execute()
    if not oldest:
        return waiting, 0
    began_ms = int(oldest[0][0].partition(b"-")[0])
    return waiting, max(0, seconds * 1000 + microseconds // 1000 - began_ms)


def newest(client: redis.Redis) -> str | None:
    """The stream id of the last entry that waits to be recorded, None if none does. Raises Unavailable."""
    with answered():
        last: Any = client.xrevrange(keys.OUTCOMES, count=1)
    return last[0][0].decode() if last else None


def is_recorded(client: redis.Redis, stream_id: str) -> bool:
    """Whether this entry, and every one before it, was recorded or set aside. Raises Unavailable."""
    with answered():
        left: Any = client.xrange(keys.OUTCOMES, max=stream_id, count=1)
    return not left


def _entry(stream_id: str, fields: dict[bytes, bytes]) -> StreamEntry | UnreadableEntry:
    try:
        if b"o" in fields:
            outcome = _decode_outcome(fields[b"o"])
            if b"n" in fields:  # readmit knows of attempts that are not in the caller's records yet
                outcome = replace(outcome, number=int(fields[b"n"]))
            if b"k" in fields:  # shred ends deliveries that its caller need not know of
                outcome = replace(outcome, endpoint_id=fields[b"k"].decode())
            return StreamEntry(stream_id, outcome)
        facts = decode_facts(fields[b"f"], event_id=fields[b"i"].decode(), account_id=fields[b"a"].decode())
        endpoints = tuple(filter(None, fields[b"e"].decode().split(",")))
        return StreamEntry(stream_id, AcceptedOutcome(facts, endpoints, int(fields[b"z"])))
    except (KeyError, ValueError, msgspec.MsgspecError):
        return UnreadableEntry(stream_id)
