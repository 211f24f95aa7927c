"""What one event costs: bytes of Redis' memory, of its append-only file, of Postgres, and on the wire.

The figures were measured on Redis 6.2 and Postgres 18 with the real outbox and lanes: the difference of `used_memory`,
`aof_current_size`, table sizes and log positions over 5,000 events at a time, divided. Contents were of 200 B, 4 KB and
64 KB, for one, two and four endpoints, each event billed; with jemalloc and with libc the fixed parts differ by 1 %. A
test measures the memory again and fails when a change of the outbox makes these figures wrong.
"""

from __future__ import annotations

import math
from typing import Final

from relay.planning.allocators import Allocator, allocated

# Around sealed content: version, length and name of the key (up to 8 characters), nonce, tag (relay.sealing).
SEALED_BYTES: Final = 38
# Redis' header of a string and its last zero.
_STRING_BYTES: Final = 6

# Memory of an event that waits, besides its content: the hash `event:` (220), `facts:` with some 240 bytes in it (345),
# the key of `sealed:` and its expiry (190), its place in `ends` (130).
_EVENT_BYTES: Final = 885
# And for each endpoint: two fields of the hash (41), a place in its line (130).
_UNIT_BYTES: Final = 171
# Until it is charged: the same in the billing lane.
_BILLING_BYTES: Final = 175
# Until it is recorded: its entry in the stream with the facts, a name for each endpoint, an entry for each attempt.
_ACCEPTED_ENTRY_BYTES: Final = 325
_NAMED_ENDPOINT_BYTES: Final = 31
_ATTEMPT_ENTRY_BYTES: Final = 170
# What is left for 24 hours of an event that is settled: a key, `1`, an expiry.
MARKER_BYTES: Final = 155
# Of a charged event, kept in case that Postgres is restored: what is its own in a compressed batch, and what the batch
# takes besides. jemalloc rounds nodes of a stream up by a tenth (its classes, on average); measured with libc.
_CHARGED_EVENT_BYTES: Final = 87
_CHARGED_BATCH_BYTES: Final = 195
_CHARGED_ROUNDED: Final[dict[Allocator, float]] = {"jemalloc": 1.1, "libc": 1.0}
# An account's configuration in the mirror, with one source and one endpoint.
ACCOUNT_BYTES: Final = 1_900
# Redis itself, the scripts, the connections of a web and a worker process, and Celery's queues.
EMPTY_BYTES: Final = 3 * 1024 * 1024

# Append-only file: accept (its arguments as single commands), reading and acknowledging its entry, claim and settle of
# the charge.
_APPENDED_EVENT_BYTES: Final = 1_375 + 240 + 685
# An endpoint in accept; claim, settle and outcome of an attempt, and the record of that.
_APPENDED_UNIT_BYTES: Final = 210
_APPENDED_ATTEMPT_BYTES: Final = 1_030 + 240

# Postgres, heap and indexes: a row of events (245 + 155), sessions (285 + 240) and ledger (395 + 315).
_EVENT_ROW_BYTES: Final = 400
_SESSION_ROW_BYTES: Final = 525
_LEDGER_ROW_BYTES: Final = 710
# A delivery: its row when it was accepted, and the version that says what became of it (320 + 330).
_DELIVERY_ROW_BYTES: Final = 650
_ATTEMPT_ROW_BYTES: Final = 270
# Its write-ahead log, without the whole pages that it writes after each checkpoint.
_LOGGED_EVENT_BYTES: Final = 2_600
_LOGGED_DELIVERY_BYTES: Final = 1_020 + 1_200

# On the wire, besides the content. To web: a provider's headers, TLS and TCP, and our answer; to endpoints: ours, with
# signatures. These two are no measurements: providers differ.
_REQUEST_BYTES: Final = 1_500
_DELIVERY_BYTES: Final = 2_000
# To and from Redis: commands and their answers.
_REDIS_EVENT_BYTES: Final = 1_600
_REDIS_UNIT_BYTES: Final = 1_020


def sealed_bytes(payload_bytes: int) -> int:
    """The sealed content of a payload: what an account's quota counts."""
    return payload_bytes + SEALED_BYTES


def waiting_bytes(payload_bytes: int, *, endpoints: int, allocator: Allocator) -> int:
    """Memory of one event that waits for its endpoints, once it is recorded and charged."""
    content = allocated(sealed_bytes(payload_bytes) + _STRING_BYTES, allocator)
    return content + _EVENT_BYTES + endpoints * _UNIT_BYTES


def unrecorded_bytes(*, endpoints: int) -> int:
    """Memory of one event on its way to Postgres: its charge and what is to be recorded of it."""
    entries = _ACCEPTED_ENTRY_BYTES + endpoints * (_NAMED_ENDPOINT_BYTES + _ATTEMPT_ENTRY_BYTES)
    return _BILLING_BYTES + entries


def charged_bytes(*, at_once: float, allocator: Allocator) -> int:
    """Memory of one charged event that is kept for `switchhook billing recharge`, if so many are charged at once."""
    own = _CHARGED_EVENT_BYTES + _CHARGED_BATCH_BYTES / max(1.0, at_once)
    return math.ceil(own * _CHARGED_ROUNDED[allocator])


def appended_bytes(payload_bytes: int, *, endpoints: int) -> int:
    """What one event adds to the append-only file over its life, with one attempt for each endpoint."""
    units = endpoints * (_APPENDED_UNIT_BYTES + _APPENDED_ATTEMPT_BYTES)
    return sealed_bytes(payload_bytes) + _APPENDED_EVENT_BYTES + units


def row_bytes(*, endpoints: int) -> int:
    """What one event adds to Postgres' tables and indexes."""
    rows = _EVENT_ROW_BYTES + _SESSION_ROW_BYTES + _LEDGER_ROW_BYTES
    return rows + endpoints * (_DELIVERY_ROW_BYTES + _ATTEMPT_ROW_BYTES)


def kept_row_bytes() -> int:
    """The part of them that is kept for good: session and ledger. Records of deliveries go after 30 days."""
    return _SESSION_ROW_BYTES + _LEDGER_ROW_BYTES


def logged_bytes(*, endpoints: int) -> int:
    """What one event adds to Postgres' write-ahead log."""
    return _LOGGED_EVENT_BYTES + endpoints * _LOGGED_DELIVERY_BYTES


def received_bytes(payload_bytes: int) -> int:
    """What one event brings to web."""
    return payload_bytes + _REQUEST_BYTES


def sent_bytes(payload_bytes: int, *, endpoints: int) -> int:
    """What one event takes to its endpoints."""
    return endpoints * (payload_bytes + _DELIVERY_BYTES)


def redis_wire_bytes(payload_bytes: int, *, endpoints: int) -> int:
    """What one event moves between our processes and Redis: its content in once, and out to each endpoint."""
    contents = (1 + endpoints) * sealed_bytes(payload_bytes)
    return contents + _REDIS_EVENT_BYTES + endpoints * _REDIS_UNIT_BYTES
