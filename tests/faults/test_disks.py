"""F21, disks that are full: under Redis' append-only file, under Postgres, under the logs."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from relay.demo.embedded import EmbeddedPostgres, Scratch, start_postgres
from tests.customers import Customer
from tests.disks import RedisOnSmallDisk, limit_files
from tests.processes import READY_SECONDS, ROOT, STOP_SECONDS, ManagedProcess
from tests.receiver import Receiver, receiving
from tests.stack import Stack, fresh_stack, migrated_template
from tests.traffic import Traffic
from tests.waiting import eventually

PER_SECOND = 50
# After an outage of a few seconds lanes look again within 8 s (workers.lane doubles its pause from 2 s).
CATCH_UP_SECONDS = 20
# After one of some 15 s, within 30 s.
LONG_CATCH_UP_SECONDS = 35
# Redis appends less than this on its own while nothing is sent, and a body of the test is larger.
FREE_BYTES = 6_000
SAID_BYTES = 8_000
# A segment of Postgres' log has this size from its beginning: what grows beyond it is a table or an index.
SEGMENT_BYTES = 16 * 1024 * 1024
# A process may say that Redis is away, and each part of it that it waits; it must not go on and on about it.
MOST_LINES = 40
_names = itertools.count(1)


@pytest.fixture
def redis_server(scratch: Scratch) -> Iterator[RedisOnSmallDisk]:
    """A Redis of the test's own."""
    server = RedisOnSmallDisk(scratch)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def stack(
    redis_server: RedisOnSmallDisk, scratch: Scratch, embedded_postgres: EmbeddedPostgres, tmp_path: Path
) -> Iterator[Stack]:
    """A system on it."""
    name = f"disk_{next(_names)}"
    url = embedded_postgres.create_database(name, template=migrated_template(embedded_postgres))
    with Stack(redis_server=redis_server, database_url=url, logs=tmp_path, watchdog=scratch.watchdog) as stack:
        yield stack
    embedded_postgres.drop_database(name)


@pytest.mark.parametrize("restarts", [0, pytest.param(3, marks=pytest.mark.heavy)], ids=["smoke", "heavy"])
def test_a_redis_that_ended_for_want_of_disk_goes_on_where_it_was(
    stack: Stack, redis_server: RedisOnSmallDisk, receiver: Receiver, restarts: int
) -> None:
    """With `appendfsync always` Redis ends: 503. Started with room again, all goes on, and what was accepted is there.

    Started before there is room, it ends once more, and nothing else does.
    """
    customer = stack.customers.create()
    traffic = Traffic(stack, customer, receiver, said_bytes=SAID_BYTES)
    processes = stack.start("web", "worker", "beat")
    waiting = leave_one_waiting(stack, customer, traffic, receiver)

    redis_server.fill_disk(free_bytes=FREE_BYTES)
    assert traffic.send(1) == 503
    redis_server.await_end()
    assert traffic.send_all(range(2, 10)) == [503] * 8
    for _ in range(restarts):
        redis_server.start()
        redis_server.await_end()
    redis_server.free_disk()
    redis_server.start()

    eventually(lambda: traffic.send(10) == 200, within_seconds=5, what="acceptance")
    traffic.send_refused_again()
    assert len(traffic.accepted) == 11
    traffic.assert_ledgers_agree(within_seconds=CATCH_UP_SECONDS, may_repeat=waiting)
    assert_calm(processes)


@pytest.mark.heavy
@pytest.mark.parametrize("outage", [(1, 3), (5, 60)], ids=["short", "long"])
def test_a_redis_that_refuses_for_want_of_disk_is_waited_for(
    stack: Stack, redis_server: RedisOnSmallDisk, receiver: Receiver, outage: tuple[int, int]
) -> None:
    """With `appendfsync everysec` Redis answers and refuses every write: 503, and nobody has to restart anything."""
    pauses, sends = outage
    stack.redis.config_set("appendfsync", "everysec")
    customer = stack.customers.create()
    traffic = Traffic(stack, customer, receiver, said_bytes=SAID_BYTES)
    processes = stack.start("web", "worker", "beat")
    waiting = leave_one_waiting(stack, customer, traffic, receiver)

    redis_server.fill_disk(free_bytes=FREE_BYTES)
    number = itertools.count(1)
    eventually(lambda: traffic.send(next(number)) == 503, within_seconds=5, what="a refusal")
    worker = processes[1]
    eventually(lambda: len(worker.events("lane_paused")) >= 2 * pauses, within_seconds=90, what="lanes that wait")
    assert {traffic.send(next(number)) for _ in range(sends)} == {503}
    answer = stack.get("/readyz")
    assert answer.status_code == 503
    redis_server.free_disk()

    eventually(lambda: traffic.send(next(number)) == 200, within_seconds=5, what="acceptance")
    traffic.send_refused_again()
    traffic.assert_ledgers_agree(within_seconds=LONG_CATCH_UP_SECONDS, may_repeat=waiting)
    assert_calm(processes)


def leave_one_waiting(stack: Stack, customer: Customer, traffic: Traffic, receiver: Receiver) -> set[str]:
    """Have an event wait for its second attempt, seconds away, with everything else of it settled; its id."""
    receiver.next_replies(500)
    assert traffic.send(0) == 200
    [waiting] = traffic.accepted
    stack.await_retry(traffic.endpoint_id, waiting.event_id)
    # It must not come before the first attempt is recorded, however long that takes.
    stack.put_off(traffic.endpoint_id, waiting.event_id, seconds=600)

    def is_waiting() -> bool:
        return bool(stack.charges(customer)) and [d.attempts for d in stack.deliveries(customer)] == [1]

    eventually(is_waiting, within_seconds=10, what="a first attempt that is recorded")
    stack.put_off(traffic.endpoint_id, waiting.event_id, seconds=3)
    return {waiting.event_id}


def assert_calm(processes: list[ManagedProcess]) -> None:
    """Every process runs, has said little, and nothing on standard error."""
    for process in processes:
        assert process.is_running, process.command
        assert len(process.events()) < MOST_LINES, process.command
        assert process.stderr.read_text() == "", process.command


@pytest.mark.parametrize("events", [60, pytest.param(1_000, marks=pytest.mark.heavy)], ids=["smoke", "heavy"])
def test_postgres_without_room_delays_records_and_bills_only(scratch: Scratch, tmp_path: Path, events: int) -> None:
    """Acceptance and relaying go on; records and bills catch up by themselves, none twice, none set aside."""
    postgres = start_postgres(scratch, name=f"small-disk-postgres-{next(_names)}", fsync=False)
    with fresh_stack(scratch, postgres, logs=tmp_path) as stack, receiving() as receiver:
        traffic = Traffic(stack, stack.customers.create(), receiver)
        grow_tables(stack)
        limit_files(postgres, SEGMENT_BYTES)
        web, worker = stack.start("web", "worker")

        with traffic.steady(range(events), per_second=PER_SECOND):
            receiver.await_posts(events, within_seconds=events / PER_SECOND + 10)
        assert len(traffic.accepted) == events
        for lane in ("billing", "record"):
            eventually(lambda: lane in paused_lanes(worker), within_seconds=10, what=f"{lane} to wait")  # noqa: B023
        limit_files(postgres, None)
        end_sessions(stack)

        traffic.assert_ledgers_agree(within_seconds=LONG_CATCH_UP_SECONDS)
        assert_calm([web, worker])
        assert worker.events("outcome_refused") == worker.events("charge_refused") == []
    postgres.stop()


def paused_lanes(worker: ManagedProcess) -> set[str]:
    """The lanes that said that they wait."""
    return {line["lane"] for line in worker.events("lane_paused")}


def grow_tables(stack: Stack) -> None:
    """Make the first table that records go to, and the first of bills, as large as a file may become."""
    long = ", ".join(["repeat(md5(n::text), 8)"] * 3)
    day = "'2020-01-01', now()"
    rows = {
        "events (id, account_id, event_class, session_id, size_bytes, day, accepted_at, provider, kind,"
        " conversation_id)": f"'grown_' || n, 'acc_grown', 'event', n, 0, {day}, {long}",
        "sessions (account_id, id, provider, conversation_id, agent_id)": f"'acc_grown', n, {long}",
    }
    with stack.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for into, values in rows.items():
            table = into.split()[0]
            connection.execute(text(f"INSERT INTO {into} SELECT {values} FROM generate_series(1, 22000) n"))
            # What was set aside for rows to come is given back.
            connection.execute(text(f"VACUUM FULL {table}"))
            size_bytes = connection.execute(text(f"SELECT pg_relation_size('{table}')")).scalar_one()
            assert size_bytes > SEGMENT_BYTES


def end_sessions(stack: Stack) -> None:
    """End the sessions of all processes: what was said of files is inherited by those that begin now."""
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    with stack.database.begin() as connection:
        connection.execute(text(f"{ended} AND pid <> pg_backend_pid()"))


@pytest.mark.heavy
def test_a_read_only_postgres_delays_records_and_bills_only(stack: Stack, traffic: Traffic, receiver: Receiver) -> None:
    """As providers make it when its disk is nearly full: the same, and it ends when that does."""
    _, worker = stack.start("web", "worker")
    set_read_only(stack, is_on=True)

    with traffic.steady(range(20), per_second=PER_SECOND):
        receiver.await_posts(20)
    assert len(traffic.accepted) == 20
    for lane in ("billing", "record"):
        eventually(lambda: lane in paused_lanes(worker), within_seconds=10, what=f"{lane} to wait")  # noqa: B023
    set_read_only(stack, is_on=False)

    traffic.assert_ledgers_agree(within_seconds=CATCH_UP_SECONDS)
    assert worker.events("outcome_refused") == worker.events("charge_refused") == []


def set_read_only(stack: Stack, *, is_on: bool) -> None:
    """Have every transaction that does not say otherwise refuse to write, from now on."""
    with stack.database.begin() as connection:
        connection.execute(text("SET TRANSACTION READ WRITE"))
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = {is_on}"))
    end_sessions(stack)


def test_a_full_disk_under_the_logs_is_nobodys_trouble(stack: Stack, traffic: Traffic, tmp_path: Path) -> None:
    """Nothing can be logged, not even that Redis dies and comes back: work goes on, and standard error stays empty."""
    errors = tmp_path / "errors"
    with speechless(stack, "web", errors), speechless(stack, "worker", errors), speechless(stack, "beat", errors):
        eventually(lambda: answers(stack), within_seconds=READY_SECONDS, what="/readyz")
        assert traffic.send(0) == 200
        stack.redis_server.kill()
        assert traffic.send(1) == 503
        stack.redis_server.start()
        eventually(lambda: traffic.send(2) == 200, within_seconds=5, what="acceptance")
        traffic.send_refused_again()
        traffic.assert_ledgers_agree(within_seconds=CATCH_UP_SECONDS)
    assert errors.read_text() == ""


def answers(stack: Stack) -> bool:
    """Whether web is ready."""
    try:
        return stack.get("/readyz").ok
    except OSError:
        return False


@contextmanager
def speechless(stack: Stack, name: str, errors: Path) -> Iterator[None]:
    """A process whose standard output is a full disk. It runs until the end, and ends by itself when it is asked to."""
    with open("/dev/full", "wb") as full, errors.open("ab") as err:  # noqa: PTH123  a device, not a file
        child = subprocess.Popen(
            [sys.executable, "-m", "relay", name],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=err,
            cwd=ROOT,
            env=stack.env,
            start_new_session=True,
        )
    try:
        yield
        assert child.poll() is None, name
        child.terminate()
        assert child.wait(STOP_SECONDS) == 0, name
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)  # what it started as well
        child.wait()
