"""Group commit, and the intake on it, with a real Redis and a real Postgres."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import redis

from relay.connections import REDIS_SECONDS
from relay.connections import redis_client as connect_redis
from relay.content import Content
from relay.demo.embedded import EmbeddedRedis, Scratch, start_redis
from relay.directory import Directory, Mirror
from relay.errors import NotFound, OverQuota, SwitchhookError, Unauthorized, Unavailable
from relay.ingress.commit import GroupCommit
from relay.ingress.intake import Intake, Receipt
from relay.ingress.pressure import PressureGauge
from relay.outbox import Accepted, Admission, Outbox, Unit, Verdict, keys
from relay.providers import retell
from relay.queues import BILLING, RELAY
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import endpoints, sources, templates
from relay.store.database import Database
from tests.customers import Customer, Customers
from tests.waiting import eventually

# The client gives up on Redis after 2 s; whoever waits for a commit knows by then.
PATIENCE_SECONDS = 2.5
MIB = 1024 * 1024
URL = "http://127.0.0.1:9/"
_numbers = itertools.count(1)


def an_admission(event_id: str | None = None, **changes: Any) -> Admission:
    values: dict[str, Any] = {
        "event_id": event_id or f"evt_{next(_numbers)}",
        "account_id": "acc_1",
        "facts": b"facts",
        "sealed": b"sealed",
        "retention_ms": 3_600_000,
        "window_ms": 3_000_000,
        "quota_bytes": 10**9,
        "units": (Unit(RELAY, "ep_1"),),
    }
    return Admission(**(values | changes))


class WatchedOutbox(Outbox):
    """Remembers the group of each call; holds the first one until it is let go."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        self.groups: list[list[str]] = []
        self.first_is_in = threading.Event()
        self.may_go = threading.Event()

    def accept(self, admissions: Sequence[Admission]) -> Accepted:
        self.groups.append([admission.event_id for admission in admissions])
        self.first_is_in.set()
        self.may_go.wait(60)
        return super().accept(admissions)


class ScriptedOutbox(Outbox):
    """Gives verdicts, or raises, as it is told."""

    def __init__(self, *answers: Verdict | Exception) -> None:
        self._answers = list(answers)

    def accept(self, admissions: Sequence[Admission]) -> Accepted:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Accepted(now_ms=0, config_version=1, rings=(), verdicts=(answer,) * len(admissions))


class UnwatchedRedis(PressureGauge):
    """A gauge that looks only when it is told, so that no thread outlives its test."""

    def start(self) -> None:
        """Nothing is watched."""


def _ignore(_: Accepted) -> None:
    """Nobody needs to know."""


def commits_to(
    outbox: Outbox, *, on_accepted: Callable[[Accepted], None] = _ignore, patience_seconds: float = 30.0
) -> GroupCommit:
    no_redis: Any = None
    gauge = UnwatchedRedis(no_redis)
    return GroupCommit(outbox, on_accepted=on_accepted, pressure=gauge, patience_seconds=patience_seconds)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Requests at the same time, each in its thread."""
    with ThreadPoolExecutor(max_workers=400) as pool:
        yield pool


def hold_first(outbox: WatchedOutbox, commits: GroupCommit, pool: ThreadPoolExecutor) -> Future[Verdict]:
    """Begin a commit that stays in flight until `may_go`."""
    first = pool.submit(commits.commit, an_admission("evt_first"))
    assert outbox.first_is_in.wait(30)
    return first


def gather(commits: GroupCommit, pool: ThreadPoolExecutor, admissions: list[Admission]) -> list[Future[Verdict]]:
    """Begin commits and wait until each waits in the queue."""
    futures = [pool.submit(commits.commit, admission) for admission in admissions]
    eventually(
        lambda: commits._waiting.qsize() == len(admissions), within_seconds=30, what=f"{len(admissions)} waiters"
    )
    return futures


# -- groups


def test_commits_at_the_same_time_share_a_call(redis_client: redis.Redis, pool: ThreadPoolExecutor) -> None:
    """While one is in flight the next gather, then go as one."""
    outbox = WatchedOutbox(redis_client)
    rings: list[Accepted] = []
    commits = commits_to(outbox, on_accepted=rings.append)
    first = hold_first(outbox, commits, pool)
    others = gather(commits, pool, [an_admission(f"evt_other_{n}") for n in range(50)])
    outbox.may_go.set()
    assert {future.result(30) for future in [first, *others]} == {Verdict.NEW}
    assert [len(group) for group in outbox.groups] == [1, 50]
    assert redis_client.zcard(keys.line(RELAY, "ep_1")) == 51
    eventually(lambda: len(rings) == 2, within_seconds=30, what="two calls told of")


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([10] * 300, [256, 44]),
        ([MIB] * 6, [4, 2]),
        ([5 * MIB, 10], [1, 1]),
    ],
)
def test_a_call_has_a_measure(
    redis_client: redis.Redis, pool: ThreadPoolExecutor, sizes: list[int], groups: list[int]
) -> None:
    """At most 256 events and about 4 MiB: a script blocks Redis for everybody."""
    outbox = WatchedOutbox(redis_client)
    commits = commits_to(outbox)
    first = hold_first(outbox, commits, pool)
    others: list[Future[Verdict]] = []
    for number, size in enumerate(sizes, start=1):
        admission = an_admission(sealed=bytes(size))
        others.append(pool.submit(commits.commit, admission))
        if len(set(sizes)) > 1:  # their order matters
            eventually(lambda n=number: commits._waiting.qsize() == n, within_seconds=30, what="a waiter")  # type: ignore[misc]
    eventually(lambda: commits._waiting.qsize() == len(sizes), within_seconds=30, what="all waiters")
    outbox.may_go.set()
    assert {future.result(30) for future in [first, *others]} == {Verdict.NEW}
    assert [len(group) for group in outbox.groups] == [1, *groups]


def test_fifty_repeats_at_once_are_one_event(redis_client: redis.Redis, pool: ThreadPoolExecutor) -> None:
    """One is new, all are accepted."""
    commits = commits_to(Outbox(redis_client))
    verdicts = [pool.submit(commits.commit, an_admission("evt_same")) for _ in range(50)]
    assert sorted(future.result(30) for future in verdicts) == [Verdict.NEW] + [Verdict.REPEAT] * 49
    assert redis_client.zcard(keys.line(RELAY, "ep_1")) == 1


# -- verdicts


@pytest.mark.parametrize("verdict", [Verdict.NEW, Verdict.REPEAT, Verdict.STALE])
def test_returns_what_the_outbox_says(verdict: Verdict) -> None:
    """New and repeat are answered 200, stale is routed again."""
    assert commits_to(ScriptedOutbox(verdict)).commit(an_admission()) is verdict


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Verdict.QUOTA, OverQuota),
        (Verdict.ERROR, Unavailable),
        (Unavailable(), Unavailable),
        (RuntimeError("quotes what was said"), Unavailable),
    ],
)
def test_raises_what_was_not_stored(answer: Verdict | Exception, error: type[SwitchhookError]) -> None:
    """As 503, for the sender will come again; nothing of an error's text goes on."""
    with pytest.raises(error) as refused:
        commits_to(ScriptedOutbox(answer)).commit(an_admission())
    assert refused.value.status == 503
    assert "said" not in str(refused.value)


def test_over_its_quota_only_this_account_is_refused(redis_client: redis.Redis) -> None:
    """Until what it holds was delivered."""
    commits = commits_to(Outbox(redis_client))
    assert commits.commit(an_admission(quota_bytes=10)) is Verdict.NEW
    with pytest.raises(OverQuota):
        commits.commit(an_admission(quota_bytes=10))
    assert commits.commit(an_admission(account_id="acc_2", quota_bytes=10)) is Verdict.NEW


def test_an_error_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    """The next commit is taken; the error is told of, without its text."""
    commits = commits_to(ScriptedOutbox(RuntimeError("quotes what was said"), Verdict.NEW))
    with pytest.raises(Unavailable):
        commits.commit(an_admission())
    assert commits.commit(an_admission()) is Verdict.NEW
    assert [record.msg for record in caplog.records] == ["commit_failed"]


def test_an_error_after_the_commit_does_not_end_the_thread() -> None:
    """It was stored, and says so; whoever rings the bell may fail."""
    failures = iter([RuntimeError("no bell")])

    def fail_once(_: Accepted) -> None:
        for error in failures:
            raise error

    commits = commits_to(ScriptedOutbox(Verdict.NEW, Verdict.NEW), on_accepted=fail_once)
    assert commits.commit(an_admission()) is Verdict.NEW
    assert commits.commit(an_admission()) is Verdict.NEW


def test_nothing_is_taken_while_redis_has_no_room(redis_client: redis.Redis) -> None:
    """Before anything is sent."""
    gauge = UnwatchedRedis(redis_client)
    commits = GroupCommit(ScriptedOutbox(), on_accepted=_ignore, pressure=gauge)
    redis_client.config_set("maxmemory", "1")
    try:
        gauge.look()
    finally:
        redis_client.config_set("maxmemory", "1gb")
    with pytest.raises(Unavailable) as refused:
        commits.commit(an_admission())
    assert refused.value.code == "memory_full"


# -- a Redis that hangs


def test_who_gave_up_is_not_committed_afterwards(redis_client: redis.Redis, pool: ThreadPoolExecutor) -> None:
    """It was told 503 and comes again; it should not then find itself a repeat."""
    outbox = WatchedOutbox(redis_client)
    commits = commits_to(outbox, patience_seconds=1.0)
    first = hold_first(outbox, commits, pool)
    waiting = gather(commits, pool, [an_admission(f"evt_gave_up_{n}") for n in range(5)])
    for future in [first, *waiting]:
        with pytest.raises(Unavailable):
            future.result(30)
    outbox.may_go.set()
    assert commits.commit(an_admission("evt_later")) is Verdict.NEW
    assert outbox.groups == [["evt_first"], ["evt_later"]]


@pytest.fixture
def own_redis(scratch: Scratch) -> Iterator[EmbeddedRedis]:
    """A Redis that a test may stop."""
    server = start_redis(scratch, name=f"commit_{next(_numbers)}")
    yield server
    server.stop()


def test_a_redis_that_hangs_is_told_in_time(own_redis: EmbeddedRedis, pool: ThreadPoolExecutor) -> None:
    """Every waiter knows within its patience, and all works again when Redis does."""
    with connect_redis(Settings(database_url="", redis_url=own_redis.url, keys="")) as client:
        commits = commits_to(Outbox(client), patience_seconds=REDIS_SECONDS)
        assert commits.commit(an_admission()) is Verdict.NEW
        own_redis.pause()

        def seconds_until_told() -> float:
            began = time.monotonic()
            with pytest.raises(Unavailable):
                commits.commit(an_admission())
            return time.monotonic() - began

        futures = [pool.submit(seconds_until_told) for _ in range(100)]
        assert max(future.result(30) for future in futures) < PATIENCE_SECONDS
        own_redis.resume()
        again = an_admission()

        def is_back() -> bool:
            try:
                return commits.commit(again) in (Verdict.NEW, Verdict.REPEAT)
            except Unavailable:
                return False

        eventually(is_back, within_seconds=5, what="a commit")


# -- the intake, while the configuration changes


class Interrupted(GroupCommit):
    """Runs something between the proof of an event and its commit, as often as it is told."""

    def interrupt_with(self, change: Callable[[], object], *, times: int = 1) -> None:
        self._change, self._times = change, times
        self.tried = 0

    def commit(self, admission: Admission) -> Verdict:
        self.tried += 1
        if self._times:
            self._times -= 1
            self._change()
        return super().commit(admission)


class World:
    """An intake as the web process makes it, and a customer with a source."""

    def __init__(self, settings: Settings, client: redis.Redis, database: Database) -> None:
        self.client = client
        self.database = database
        self.ring = KeyRing(settings.keys)
        self.mirror = Mirror(client, self.ring)
        directory = Directory(self.mirror, self.ring, database)
        self.commits = Interrupted(
            Outbox(client),
            on_accepted=lambda accepted: directory.saw(accepted.config_version),
            pressure=UnwatchedRedis(client, on_config_version=directory.saw),
        )
        self.intake = Intake(settings, self.ring, directory, self.commits)
        self.customer: Customer = Customers(settings, database, client).create()
        self.source = self.customer.source("retell", relay_url=URL)

    def post(self, call_id: str) -> Receipt:
        ended = {"event": "call_ended", "call": {"call_id": call_id, "start_timestamp": 1, "end_timestamp": 2}}
        raw = json.dumps(ended).encode()
        header = dict(retell.sign(raw, secret=self.source.secret, now_ms=int(time.time() * 1000))).get
        return self.intake.signed("retell", self.source.id, Content(raw), header=header, content_type="text/plain")

    def canary(self, secret: str) -> Receipt:
        return self.intake.canary(
            "event",
            Content(b'{"conversationId":"c"}'),
            secret=secret,
            signature=None,
            idempotency_key=None,
            content_type="application/json",
        )

    def waiting(self, endpoint_id: str) -> int:
        return int(self.client.zcard(keys.line(RELAY, endpoint_id)))

    def publish(self) -> None:
        self.mirror.publish(self.database, self.customer.id)


@pytest.fixture
def world(settings: Settings, redis_client: redis.Redis, database: Database) -> World:
    return World(settings, redis_client, database)


def test_an_event_goes_where_the_newest_configuration_says(world: World) -> None:
    """An endpoint that was made between proof and commit gets it; nothing is committed by the old routes."""
    made: list[Any] = []
    world.commits.interrupt_with(lambda: made.append(world.customer.endpoint(URL)))
    receipt = world.post("call_1")
    assert not receipt.repeat
    assert world.commits.tried == 2
    assert world.source.endpoint is not None
    assert world.waiting(made[0].id) == world.waiting(world.source.endpoint.id) == 1
    assert world.client.zcard(keys.line(BILLING, world.customer.id)) == 1
    assert world.post("call_1").repeat


def test_an_event_of_a_source_that_was_disabled_meanwhile_is_refused(world: World) -> None:
    """As if it had come a moment later."""

    def disable() -> None:
        with world.database.begin() as connection:
            sources.disable(connection, world.ring, account_id=world.customer.id, source_id=world.source.id)
        world.publish()

    world.commits.interrupt_with(disable)
    with pytest.raises(NotFound):
        world.post("call_1")
    assert world.client.keys("sw:event:*") == []


def test_a_secret_that_was_replaced_meanwhile_proves_nothing(world: World) -> None:
    """Of a source, or of a template that was given two new ones: a leak that was closed."""
    template = world.customer.template(URL, webhook_secret="leaked").template

    def replace() -> None:
        with world.database.begin() as connection:
            sources.set_secrets(
                connection, world.ring, account_id=world.customer.id, source_id=world.source.id, secrets=["fresh"]
            )
            for secret in ("fresh", "fresher"):
                templates.update(
                    connection,
                    world.ring,
                    account_id=world.customer.id,
                    template_id=template.id,
                    webhook_secret=secret,
                )
        world.publish()

    world.commits.interrupt_with(replace)
    with pytest.raises(Unauthorized):
        world.post("call_1")
    with world.database.begin() as connection:
        templates.update(
            connection, world.ring, account_id=world.customer.id, template_id=template.id, webhook_secret="leaked"
        )
    world.publish()
    world.commits.interrupt_with(replace)
    with pytest.raises(Unauthorized):
        world.canary("leaked")
    assert world.client.keys("sw:event:*") == []


def test_a_configuration_that_never_rests_is_told(world: World) -> None:
    """The sender comes again; its request does not go round for ever."""
    world.commits.interrupt_with(lambda: world.customer.endpoint(URL), times=100)
    with pytest.raises(Unavailable):
        world.post("call_1")
    assert world.commits.tried < 10
    assert world.client.keys("sw:event:*") == []


def test_an_endpoint_that_was_disabled_still_gets_its_unit(world: World) -> None:
    """It ends there as dead, not in silence."""
    assert world.source.endpoint is not None
    with world.database.begin() as connection:
        endpoints.set_state(
            connection, account_id=world.customer.id, endpoint_id=world.source.endpoint.id, state="disabled"
        )
    world.publish()
    world.commits.interrupt_with(lambda: None)
    world.post("call_1")
    assert world.waiting(world.source.endpoint.id) == 1
