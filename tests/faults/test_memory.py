"""A Redis that is full: of one account's backlog, of everybody's, or of a policy that would throw events away."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from relay.planning import footprint
from tests.customers import Customer, Inlet
from tests.memory import allocator, held_bytes
from tests.payloads import retell_event, retell_headers
from tests.receiver import Post, Receiver, Reply, receiving
from tests.stack import Stack
from tests.traffic import Traffic
from tests.waiting import eventually

MIB = 1024 * 1024
# Nobody listens there.
DEAD_URL = "http://127.0.0.1:1/hook"
SENDERS = 8
# What `switchhook plan` promises.
TOLERANCE = 0.15
# The gate of an endpoint that has failed ten times lets a probe through after 5, 10, 20, 40 s (prelude.lua).
PROBE_SECONDS = 45
# A lane that could not speak to Redis looks again within 30 s (workers.lane).
CATCH_UP_SECONDS = 35


class NotingReceiver(Receiver):
    """A receiver that notes what it answered to whom."""

    def __init__(self) -> None:
        self._noting = threading.Lock()
        self._noted: list[tuple[Post, Reply]] = []
        super().__init__()

    def take(self, post: Post) -> Reply:
        reply = super().take(post)
        with self._noting:
            self._noted.append((post, reply))
        return reply

    def delivered(self) -> Counter[str]:
        """How often each event was answered 200."""
        with self._noting:
            return Counter(post.event_id for post, reply in self._noted if reply == 200)

    def attempts(self) -> Counter[tuple[str, str]]:
        """How often each attempt of each event was made, by the number that it says it has."""
        with self._noting:
            return Counter((post.event_id, post.headers["switchhook-attempt"]) for post, _ in self._noted)


@pytest.fixture
def receiver() -> Iterator[NotingReceiver]:
    """A customer's server."""
    it = NotingReceiver()
    yield it
    it.close()


@pytest.mark.parametrize(
    ("quota_mib", "body_bytes"), [(2, 8_000), pytest.param(32, 8_000, marks=pytest.mark.heavy)], ids=["smoke", "heavy"]
)
def test_an_account_over_its_quota_costs_the_others_nothing(stack: Stack, quota_mib: int, body_bytes: int) -> None:
    """F23: ten times its quota for a dead endpoint fills the quota, no more; memory is as planned within 15 %."""
    quota_bytes = quota_mib * MIB
    greedy = stack.customers.create(quota_bytes=quota_bytes)
    source = greedy.source("retell", relay_url=DEAD_URL)
    with receiving() as receiver:
        traffic = Traffic(stack, stack.customers.create(), receiver)
        stack.start("web", "worker")
        assert traffic.send(0) == 200
        traffic.assert_ledgers_agree()
        before = held_bytes(stack.redis)

        count = 10 * quota_bytes // body_bytes
        with traffic.steady(range(1, 101), per_second=50):
            answers = offer(stack, source, count=count, body_bytes=body_bytes)
        eventually(lambda: is_recorded(stack, greedy), within_seconds=CATCH_UP_SECONDS, what="all recorded and charged")
        grown = held_bytes(stack.redis) - before

        size = footprint.sealed_bytes(len(body_of(0, body_bytes)))
        assert answers.keys() == {(200, ""), (503, "over_quota")}
        accepted = answers[200, ""]
        assert quota_bytes - size * 2 < accepted * size <= quota_bytes + size
        assert traffic.refused == []
        traffic.assert_ledgers_agree()
        assert grown == pytest.approx(planned_bytes(stack, accepted, body_bytes=body_bytes), rel=TOLERANCE)


def offer(stack: Stack, source: Inlet, *, count: int, body_bytes: int) -> Counter[tuple[int, str]]:
    """Send so many ends of calls as fast as it goes; how often each status and code was answered."""

    def send(number: int) -> tuple[int, str]:
        body = body_of(number, body_bytes)
        answer = stack.post(source.url, body, retell_headers(body, source.secret))
        return answer.status_code, answer.json().get("code", "")

    with ThreadPoolExecutor(SENDERS) as pool:
        return Counter(pool.map(send, range(count)))


def body_of(number: int, body_bytes: int) -> bytes:
    """A call's end of about this size; the same size for every number."""
    return retell_event("call_ended", f"greedy_{number:06}", said="x" * (body_bytes - 300))


def planned_bytes(stack: Stack, accepted: int, *, body_bytes: int) -> int:
    """What `switchhook plan` says of so many events that wait."""
    size = len(body_of(0, body_bytes))
    return accepted * footprint.waiting_bytes(size, endpoints=1, allocator=allocator(stack.redis))


def is_recorded(stack: Stack, customer: Customer) -> bool:
    """Whether every event of a customer is charged, and nothing waits to be recorded."""
    waiting = stack.redis.zcard(f"sw:line:billing:{customer.id}") + stack.redis.zcard(f"sw:fly:billing:{customer.id}")
    return not waiting and not stack.redis.xlen("sw:outcomes")


@pytest.mark.parametrize(
    ("events", "blips"), [(200, 1), pytest.param(3_000, 5, marks=pytest.mark.heavy)], ids=["smoke", "heavy"]
)
def test_a_full_redis_drains_by_itself_when_the_endpoint_is_back(
    stack: Stack, customer: Customer, receiver: NotingReceiver, events: int, blips: int
) -> None:
    """F27, F6: what waits is tried while nothing can be taken, and is delivered once; no process ends of it.

    Not even those that lose their connections meanwhile, or that are started then.
    """
    traffic = Traffic(stack, customer, receiver, said_bytes=8_000)
    receiver.usual_reply(500, delay_seconds=0.5)
    processes = stack.start("web", "worker", "beat")
    with traffic.steady(range(events), per_second=200):
        pass
    assert len(traffic.accepted) == events

    fill(stack)
    eventually(lambda: traffic.send(events) == 503, within_seconds=5, what="a refusal")
    names = set(stack.redis.scan_iter(match="sw:sealed:*", count=1_000))
    for blip in range(blips):
        receiver.await_posts(10 + blip, within_seconds=PROBE_SECONDS)
        stack.redis.client_kill_filter(_type="normal", skipme=True)
        eventually(lambda: consumers(stack) == 1, within_seconds=10, what="a consumer")
    processes += stack.start("worker")
    assert set(stack.redis.scan_iter(match="sw:sealed:*", count=1_000)) == names
    receiver.usual_reply(200)

    stack.await_settled(customer, within_seconds=PROBE_SECONDS + CATCH_UP_SECONDS)
    eventually(lambda: traffic.send(events) == 200, within_seconds=5, what="acceptance without a hand")
    stack.await_settled(customer)
    assert [process.is_running for process in processes] == [True] * 4
    assert stack.redis.info("stats")["evicted_keys"] == 0
    assert receiver.delivered() == dict.fromkeys((one.event_id for one in traffic.accepted), 1)
    assert set(receiver.attempts().values()) == {1}
    assert {delivery.status for delivery in stack.deliveries(customer)} == {"delivered"}
    assert sorted(row.conversation_id for row in stack.charges(customer)) == sorted(
        one.call_id for one in traffic.accepted
    )
    assert stack.scrape()["switchhook_unaccounted_events"] == 0


def fill(stack: Stack) -> None:
    """Leave Redis no room for a byte, not even when a good part of what it holds is gone."""
    stack.redis.config_set("maxmemory", int(stack.redis.info("memory")["used_memory"]) * 6 // 10)


def consumers(stack: Stack) -> int:
    """How many clients are blocked in BRPOP."""
    return sum(client["cmd"] == "brpop" for client in stack.redis.client_list())


def test_an_evicting_redis_is_refused_at_start(stack: Stack) -> None:
    """F6: by web and by workers, in words that say what to set."""
    stack.redis.config_set("maxmemory-policy", "allkeys-lru")

    processes = [stack.spawn(name) for name in ("web", "worker")]

    assert [process.wait() for process in processes] == [1, 1]
    told = [process.stderr.read_text() for process in processes]
    assert all("allkeys-lru" in text and "noeviction" in text for text in told)
