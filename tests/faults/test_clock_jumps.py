"""Wall clocks that jump an hour, and back: Redis', a worker's, or both."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from relay.demo.embedded import EmbeddedPostgres, EmbeddedRedis, Scratch
from relay.demo.embedded.redis import MAXMEMORY_MIB
from tests.customers import Customer
from tests.payloads import retell_event, retell_headers
from tests.receiver import Post, Receiver, Reply
from tests.stack import Stack, migrated_template
from tests.traffic import Traffic
from tests.waiting import eventually

HOUR_SECONDS: Final = 3_600
# What a worker had claimed and could not settle is claimed again when its lease ends (relay.outbox.LEASE_MS).
LEASE_SECONDS: Final = 60
# What is sent so close to a jump may have been in flight at it.
NEAR_SECONDS: Final = 0.5
# More requests than may be under way at a jump: they were stored before it and answered after it.
AT_ONCE: Final = 20
EVENTS, PER_SECOND, RETRIES = 300, 50, 20
_numbers = itertools.count(1)


class FailingOnce(Receiver):
    """A receiver that fails the first attempt of every event, however long all of them take to come."""

    def take(self, post: Post) -> Reply:
        super().take(post)
        return 500 if post.headers["switchhook-attempt"] == "1" else 200


class ShiftedClock:
    """A wall clock for the processes that are started with it; the kernel's other clocks go on as ever."""

    def __init__(self, scratch: Scratch, library: Path) -> None:
        self._file = scratch.directory / f"clock_{next(_numbers)}"
        self._library = library
        self.set(0)
        self._file.chmod(0o644)

    def set(self, ahead_seconds: int) -> None:
        """Let it be so far ahead of the machine's, from now on."""
        with self._file.open("wb" if not self._file.exists() else "r+b") as file:
            file.write(ahead_seconds.to_bytes(8, "little", signed=True))

    @property
    def environment(self) -> dict[str, str]:
        """What a process must be started with to live by this clock."""
        return {"LD_PRELOAD": str(self._library), "SHIFTED_CLOCK": str(self._file)}


class ClockedRedis(EmbeddedRedis):
    """A Redis that lives by a clock of ours."""

    def __init__(self, scratch: Scratch, clock: ShiftedClock) -> None:
        super().__init__(scratch, name=f"clocked_{next(_numbers)}", tcp_port=None, maxmemory_mib=MAXMEMORY_MIB)
        self._clock = clock

    def _command(self) -> Sequence[str]:
        given = [f"{name}={value}" for name, value in self._clock.environment.items()]
        return ["/usr/bin/env", *given, *super()._command()]


@pytest.fixture(scope="module")
def library(scratch: Scratch) -> Path:
    """The library that shifts clocks."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: clocks cannot be shifted")
    library = scratch.directory / "shifted_clock.so"
    source = Path(__file__).with_name("shifted_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
    library.chmod(0o755)
    return library


@pytest.fixture
def clocks(scratch: Scratch, library: Path) -> dict[str, ShiftedClock]:
    """The clocks of Redis and of the worker."""
    return {"redis": ShiftedClock(scratch, library), "worker": ShiftedClock(scratch, library)}


@pytest.fixture
def stack(
    scratch: Scratch, embedded_postgres: EmbeddedPostgres, clocks: dict[str, ShiftedClock], tmp_path: Path
) -> Iterator[Stack]:
    """A system on a Redis with a clock of its own."""
    server = ClockedRedis(scratch, clocks["redis"])
    server.start()
    name = f"clocked_{next(_numbers)}"
    url = embedded_postgres.create_database(name, template=migrated_template(embedded_postgres))
    with Stack(redis_server=server, database_url=url, logs=tmp_path, watchdog=scratch.watchdog) as stack:
        yield stack
    server.stop()
    embedded_postgres.drop_database(name)


@pytest.mark.heavy
@pytest.mark.parametrize("whose", ["redis", "worker", "redis worker"])
@pytest.mark.parametrize("jump_seconds", [HOUR_SECONDS, -HOUR_SECONDS])
def test_clocks_that_jump_lose_and_repeat_nothing(
    stack: Stack, receiver: Receiver, clocks: dict[str, ShiftedClock], jump_seconds: int, whose: str
) -> None:
    """F10: an hour either way under load, and back; what is accepted meanwhile is delivered meanwhile.

    Retries that wait when Redis' clock jumps come at once (an hour ahead) or when it is right again (an hour back), and
    what had just been accepted when it jumps back is due an hour later: each once in any case. Only what is in flight
    at a jump may come twice. The web process keeps the right time: by another it would refuse what providers sign.
    """
    stack.start("web")
    stack.env.update(clocks["worker"].environment)
    stack.start("worker")
    customer, other = stack.customers.create(), stack.customers.create()
    traffic = Traffic(stack, customer, receiver)
    jumps: list[float] = []

    def jump(seconds: int) -> None:
        for name in whose.split():
            clocks[name].set(seconds)
        redis_ahead = int(stack.redis.time()[0]) - time.time()
        assert round(redis_ahead / HOUR_SECONDS) * HOUR_SECONDS == (seconds if "redis" in whose else 0)
        jumps.append(time.monotonic())

    with closing(FailingOnce()) as failing:
        fail_once(stack, other, failing)
        with traffic.steady(range(EVENTS), per_second=PER_SECOND):
            traffic.await_accepted(EVENTS // 3)
            jump(jump_seconds)
            during = len(traffic.accepted)
            traffic.await_accepted(2 * EVENTS // 3)
            meanwhile = [one.event_id for one in traffic.accepted[during + AT_ONCE : 2 * EVENTS // 3]]
            eventually(lambda: receiver.per_event().keys() >= set(meanwhile), within_seconds=5, what="deliveries")
            jump(0)
        assert len(traffic.accepted) == EVENTS
        jump(max(0, jump_seconds))  # an hour later

        stack.await_settled(customer, within_seconds=LEASE_SECONDS + 15)
        in_flight = {post.event_id for post in receiver.posts if any(abs(post.at - at) < NEAR_SECONDS for at in jumps)}
        traffic.assert_ledgers_agree(may_repeat=in_flight)
        stack.await_settled(other, within_seconds=LEASE_SECONDS + 15)
        assert {(one.status, one.attempts) for one in stack.deliveries(other)} == {("delivered", 2)}
        assert set(failing.per_event().values()) == {2}


def fail_once(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """Have a few deliveries fail once, each at an endpoint of its own; their retries will succeed."""
    for number in range(RETRIES):
        source = customer.source("retell", relay_url=receiver.url)
        body = retell_event("call_ended", f"retried_{number}")
        assert stack.post(source.url, body, retell_headers(body, source.secret)).status_code == 200
    receiver.await_posts(RETRIES)
