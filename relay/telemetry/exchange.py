"""Where processes leave their samples for whoever answers a scrape: a key each in Redis, gone 30 s after the last.

The index is only a list of names to ask for. A process that has gone is taken out of it by the next scrape; one that
starts cuts it to the newest names, whoever they are, so that it stays small where nobody ever scrapes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import redis

from relay.connections import answered
from relay.telemetry.process import kind_of
from relay.telemetry.samples import SampleSet, decode

# Two publishes may fail, or a process stand still for so long, before it is taken for gone.
LIFETIME: Final = timedelta(seconds=30)
# On one page. A hundred samples each, so that a scrape stays under a megabyte.
MOST_SHOWN: Final = 64
_MOST_INDEXED: Final = 2 * MOST_SHOWN
INDEX: Final = "sw:samples"


def key(process: str) -> str:
    """String with a TTL: the encoded samples of a process."""
    return f"{INDEX}:{process}"


@dataclass(frozen=True, slots=True)
class Others:
    """The processes that published within the last 30 s, by name.

    shown  the samples of at most so many as one page has room for
    names  all of them
    """

    shown: dict[str, SampleSet]
    names: tuple[str, ...]


class Exchange:
    """Writes and reads samples. Every method raises Unavailable when Redis does not answer."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def tidy(self) -> None:
        """Cut the index to its newest 128 names. Once per start is enough: a process has one name for its life."""
        with answered():
            self._client.zremrangebyrank(INDEX, 0, -_MOST_INDEXED - 1)

    def publish(self, process: str, encoded: bytes) -> None:
        """Leave the samples of a process for 30 s."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.set(key(process), encoded, px=LIFETIME)
        # Only the order counts: clocks of hosts disagree.
        pipeline.zadd(INDEX, {process: time.time()})
        with answered():
            pipeline.execute()

    def others(self, process: str) -> Others:
        """What all processes but this one published."""
        with answered():
            indexed: Any = self._client.zrevrange(INDEX, 0, _MOST_INDEXED - 1)
            names = sorted(name.decode("utf-8", "replace") for name in indexed)
            published: Any = self._client.mget([key(name) for name in names]) if names else []
            alive = {name: encoded for name, encoded in zip(names, published, strict=True) if encoded and kind_of(name)}
            gone = [name for name in names if name not in alive]
            if gone:
                self._client.zrem(INDEX, *gone)
        alive.pop(process, None)
        shown = {name: decode(encoded) for name, encoded in list(alive.items())[: MOST_SHOWN - 1]}
        return Others({name: samples for name, samples in shown.items() if samples}, tuple(alive))
