"""Finding planted strings in everything that is written anywhere, in the encodings that could hide them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

import redis
from sqlalchemy import Connection, inspect, text

_PHASES: Final = 3


class Scanner:
    """Looks for canaries as they are, and in hex, base64 at any offset, UTF-16, URL and JSON escapes."""

    def __init__(self, canaries: Iterable[str]) -> None:
        self._needles = {needle: canary for canary in canaries for needle in _spellings(canary)}

    def found_in(self, data: bytes) -> set[str]:
        """The canaries that this holds in some spelling."""
        return {canary for needle, canary in self._needles.items() if needle in data}

    def found_in_all(self, places: Iterable[tuple[str, bytes]]) -> set[tuple[str, str]]:
        """Place and canary of everything found. Raises AssertionError if there was nothing to look at."""
        looked, found = 0, set()
        for place, data in places:
            looked += len(data)
            found |= {(place, canary) for canary in self.found_in(data)}
        assert looked, "a scan of nothing proves nothing"
        return found


def redis_contents(client: redis.Redis) -> Iterator[tuple[str, bytes]]:
    """Every key of a Redis database with all that it holds, whatever its type; the name is part of it."""
    read: dict[bytes, Any] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": client.xrange,
    }
    for key in client.scan_iter():
        kind: Any = client.type(key)
        if kind != b"none":  # it expired meanwhile
            yield key.decode("utf-8", "replace"), key + b"\n" + b"\n".join(_leaves(read[kind](key)))


def postgres_contents(connection: Connection) -> Iterator[tuple[str, bytes]]:
    """Every row of every table as text; bytes show as hex."""
    for table in inspect(connection).get_table_names():
        rows: Sequence[str] = connection.execute(text(f'SELECT t::text FROM "{table}" t')).scalars().all()
        yield table, "\n".join(rows).encode()


def _leaves(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _leaves(pair)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _leaves(item)


def _spellings(canary: str) -> Iterator[bytes]:
    raw = canary.encode()
    yield raw
    yield raw.hex().encode()
    yield canary.encode("utf-16-le")
    yield quote(canary, safe="").encode()
    yield canary.encode("unicode_escape")
    for phase in range(_PHASES):
        # Whole groups of three bytes look the same wherever they begin; the edges depend on the neighbours.
        whole = raw[(_PHASES - phase) % _PHASES :]
        yield base64.b64encode(whole[: len(whole) // _PHASES * _PHASES])
