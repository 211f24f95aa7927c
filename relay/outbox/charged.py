"""The stream of charged events: what a ledger can be made again from when Postgres was restored. Metadata only.

The billing lane appends what it has charged, a batch in one entry, in the round trip that settles it. Entries of many
events are compressed: a batch of 50 takes a third of the room. They are dropped by age, and, oldest first, before
memory is so short that events would be refused for it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec
import redis

from relay.calls import Facts
from relay.connections import answered
from relay.outbox import keys
from relay.outbox.outcomes import decode_facts

_FIELD: Final = b"b"
# Raw deflate, and the fastest: more effort saves 5 % for twice the time.
_LEVEL: Final = 1
_WINDOW_BITS: Final = -15
# A batch of the billing lane has a few hundred events; what claims to be larger is none of ours.
_BATCH_BYTES_MOST: Final = 64 * 1024 * 1024
_READ_ENTRIES: Final = 64
# Redis drops at most this many in one command that trims by whole nodes, and serves nobody else meanwhile.
_DROPPED_AT_ONCE: Final = 10_000
_DROPS_MOST: Final = 100


class ChargedEvent(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One event that was charged, and what its price followed from besides its facts.

    `facts` as relay.outbox.outcomes encodes them. The session's id may be another than the facts name; the next four
    are its terms. `amount` is what this event made the call cost; None if it charged nothing.
    New fields come last and with a default: versions N and N+1 of the code read each other's entries.
    """

    event_id: str
    account_id: str
    facts: bytes
    session_id: int
    template_id: int | None = None
    pinned_card_id: str | None = None
    tag: str | None = None
    own_key: bool = False
    amount: Decimal | None = None

    def decoded(self) -> Facts:
        """Its facts, of the session that it was charged to. Raises msgspec.MsgspecError."""
        facts = decode_facts(self.facts, event_id=self.event_id, account_id=self.account_id)
        return msgspec.structs.replace(facts, session_id=self.session_id)


class ChargedBatch(NamedTuple):
    """One entry: when it was appended (ms, Redis' clock) and its events; None if this version cannot read them."""

    at_ms: int
    events: list[ChargedEvent] | None


_encode: Final = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode: Final = msgspec.msgpack.Decoder(list[ChargedEvent]).decode


def encoded(events: Sequence[ChargedEvent]) -> bytes:
    """A batch as the stream keeps it."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS)
    return packer.compress(_encode(events)) + packer.flush()


def decoded(batch: bytes) -> list[ChargedEvent]:
    """The events of a batch again. Raises ValueError (msgspec's errors are)."""
    unpacker = zlib.decompressobj(_WINDOW_BITS)
    try:
        plain = unpacker.decompress(batch, _BATCH_BYTES_MOST)
    except zlib.error:
        raise ValueError("not a batch of charged events") from None
    if not unpacker.eof:
        raise ValueError("not a whole batch of charged events")
    return _decode(plain)


def read(client: redis.Redis, *, since_ms: int) -> Iterator[ChargedBatch]:
    """What was appended from a moment on and is there now, in order. Raises Unavailable."""
    with answered():
        last: Any = client.xrevrange(keys.CHARGED, count=1)
    if not last:
        return
    first, end = str(since_ms), last[0][0]
    while True:
        with answered():
            entries: Any = client.xrange(keys.CHARGED, first, end, count=_READ_ENTRIES)
        for stream_id, fields in entries:
            yield ChargedBatch(_moment(stream_id), _events(fields))
        if len(entries) < _READ_ENTRIES:
            return
        first = "(" + entries[-1][0].decode()


def reaches_back_to(client: redis.Redis) -> int | None:
    """When the oldest entry was appended (ms, Redis' clock); None if there is none. Raises Unavailable."""
    with answered():
        first: Any = client.xrange(keys.CHARGED, count=1)
    return _moment(first[0][0]) if first else None


def forget(client: redis.Redis, *, older_than: timedelta) -> None:
    """Drop entries by age; all of them if nothing is kept at all. Raises Unavailable."""
    with answered():
        if not older_than:
            client.unlink(keys.CHARGED)
            return
        seconds, microseconds = client.time()
        before = str(seconds * 1000 + microseconds // 1000 - older_than // timedelta(milliseconds=1))
        while client.xtrim(keys.CHARGED, minid=before, approximate=True, limit=_DROPPED_AT_ONCE):
            pass
        # Those that share a node with newer ones.
        client.xtrim(keys.CHARGED, minid=before, approximate=False)


def drop_older_half(client: redis.Redis) -> int:
    """Drop half of the entries, the oldest, at most a million; how many. Raises redis.RedisError."""
    count = int(client.xlen(keys.CHARGED))
    kept, dropped = count // 2, 0
    if count < _DROPPED_AT_ONCE:
        return int(client.xtrim(keys.CHARGED, maxlen=kept, approximate=False)) if count else 0
    for _ in range(_DROPS_MOST):
        now = int(client.xtrim(keys.CHARGED, maxlen=kept, approximate=True, limit=_DROPPED_AT_ONCE))
        dropped += now
        if not now:
            break
    return dropped


def _moment(stream_id: bytes) -> int:
    return int(stream_id.partition(b"-")[0])


def _events(fields: dict[bytes, bytes]) -> list[ChargedEvent] | None:
    try:
        return decoded(fields[_FIELD])
    except (KeyError, ValueError):
        return None
