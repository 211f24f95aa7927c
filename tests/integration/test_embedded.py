"""The embedded servers are real and durable, and can be made to fail."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import psycopg
import pytest
import redis
from celery import Celery
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import create_engine, text

from relay.connections import postgres_engine
from relay.demo.embedded import (
    EmbeddedPostgres,
    EmbeddedRedis,
    Scratch,
    ServerFailed,
    process,
    scratch_directory,
    start_postgres,
    start_redis,
)
from relay.demo.embedded.process import ServerProcess
from relay.settings import Settings
from tests.waiting import eventually


@pytest.fixture
def own_redis() -> Iterator[EmbeddedRedis]:
    """A Redis that the test may kill."""
    with scratch_directory() as scratch:
        yield start_redis(scratch, tcp_port=0)


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A Postgres that the test may kill."""
    with scratch_directory() as scratch:
        yield start_postgres(scratch)


def test_redis_keeps_every_acknowledged_write(scratch: Scratch) -> None:
    """Redis syncs each write, evicts nothing and has a limit."""
    server = start_redis(scratch, name="as_it_is")
    wanted = {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "maxmemory": str(1024**3),
        "save": "",
        "port": "0",
    }
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        config = client.config_get("*")
    server.stop()
    assert {name: config[name] for name in wanted} == wanted


def test_redis_survives_kill_with_its_data(own_redis: EmbeddedRedis) -> None:
    """After SIGKILL the same address answers with what was written, over the socket and over TCP."""
    with redis.Redis.from_url(own_redis.url) as client:
        client.set("key", "value")
    urls, first = (own_redis.url, own_redis.tcp_url), own_redis.pid
    own_redis.kill()
    own_redis.start()
    assert own_redis.pid != first
    assert (own_redis.url, own_redis.tcp_url) == urls
    for url in urls:
        with redis.Redis.from_url(url) as client:
            assert client.get("key") == b"value"


def test_redis_stops_in_order_and_starts_again(own_redis: EmbeddedRedis) -> None:
    """A restart keeps data; a server that is not running has no pid and can be stopped again."""
    with redis.Redis.from_url(own_redis.url) as client:
        client.set("key", "value")
        own_redis.restart()
        assert client.get("key") == b"value"
    own_redis.stop()
    own_redis.stop()
    with pytest.raises(ServerFailed, match="not running"):
        _ = own_redis.pid


def test_redis_started_twice_is_refused(own_redis: EmbeddedRedis) -> None:
    """A second start is an error and leaves the first process in place."""
    pid = own_redis.pid
    with pytest.raises(ServerFailed, match="running already"):
        own_redis.start()
    assert own_redis.pid == pid


def test_redis_without_tcp_port_has_no_tcp_url(embedded_redis: EmbeddedRedis) -> None:
    """TCP is only for those who asked for it."""
    with pytest.raises(ValueError, match="Unix socket only"):
        _ = embedded_redis.tcp_url


def test_paused_redis_hangs_and_goes_on(own_redis: EmbeddedRedis) -> None:
    """A paused server takes commands without answering; resumed, it answers."""
    path, retry = str(own_redis.socket_path), Retry(NoBackoff(), 0)
    with (
        redis.Redis(unix_socket_path=path, retry=retry) as patient,
        redis.Redis(unix_socket_path=path, socket_timeout=0.2, retry=retry) as impatient,
    ):
        patient.ping()
        own_redis.pause()
        with pytest.raises(redis.TimeoutError):
            impatient.ping()
        own_redis.resume()
        assert patient.ping()


def test_celery_reaches_the_same_redis_database(embedded_redis: EmbeddedRedis) -> None:
    """kombu names a Unix socket's database `virtual_host`; the message arrives in that database."""
    with redis.Redis.from_url(embedded_redis.url_of(3)) as client:
        client.flushall()
        broker = f"redis+socket://{embedded_redis.socket_path}?virtual_host=3"
        with Celery("test", broker=broker, set_as_current=False) as app:
            app.send_task("noun.verb", queue="bells")
        assert client.llen("bells") == 1


def test_postgres_survives_kill_with_its_data(own_postgres: EmbeddedPostgres) -> None:
    """After SIGKILL, and with a session left open, the same URL answers with what was committed."""
    with psycopg.connect(own_postgres.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    session = psycopg.connect(own_postgres.url)
    own_postgres.kill()
    own_postgres.start()
    with psycopg.connect(own_postgres.url) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    session.close()


def test_postgres_keeps_values_out_of_its_log(own_postgres: EmbeddedPostgres) -> None:
    """A failing statement leaves neither its text nor the row's values in the log."""
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE secrets (word text PRIMARY KEY)")
        connection.execute("INSERT INTO secrets VALUES ('hush')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO secrets VALUES (%s)", ["hush"])
    log = (own_postgres.directory.parent / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "hush" not in log
    assert "INSERT" not in log


def test_postgres_is_durable_unless_told_otherwise(
    own_postgres: EmbeddedPostgres, embedded_postgres: EmbeddedPostgres
) -> None:
    """fsync is on by default, off where a test asked; there is no TCP, and text is UTF-8."""
    for server, fsync in ((own_postgres, "on"), (embedded_postgres, "off")):
        with psycopg.connect(server.url) as connection:
            shown = [connection.execute(f"SHOW {name}").fetchone() for name in ("fsync", "listen_addresses")]
            assert shown == [(fsync,), ("",)]
            assert connection.info.encoding == "utf-8"


def test_paused_postgres_hangs_and_goes_on(own_postgres: EmbeddedPostgres) -> None:
    """Open sessions hang too, though each is a process of its own; resumed, they answer."""
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        own_postgres.pause()
        connection.pgconn.send_query(b"SELECT 1")
        assert select.select([connection], [], [], 0.2)[0] == []
        own_postgres.resume()
        answers = iter(connection.pgconn.get_result, None)
        assert [answer.status for answer in answers] == [psycopg.pq.ExecStatus.TUPLES_OK]


def test_paused_postgres_can_be_killed(own_postgres: EmbeddedPostgres) -> None:
    """Stopped sessions do not keep the next start waiting."""
    session = psycopg.connect(own_postgres.url)
    own_postgres.pause()
    own_postgres.kill()
    own_postgres.start()
    with psycopg.connect(own_postgres.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    session.close()


def test_postgres_url_ignores_the_developers_environment(
    embedded_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGPORT and PGHOST of a developer's shell do not lead elsewhere."""
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGHOST", "/nowhere")
    engine = create_engine(embedded_postgres.url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT current_database()")) == "switchhook"
    engine.dispose()


def test_database_copies_its_template(embedded_postgres: EmbeddedPostgres) -> None:
    """A database made from a template has its tables; dropping it does not wait for its clients."""
    with psycopg.connect(embedded_postgres.create_database("pattern")) as connection:
        connection.execute("CREATE TABLE drawn AS SELECT 1 AS number")
    session = psycopg.connect(embedded_postgres.create_database("copy", template="pattern"))
    assert session.execute("SELECT number FROM drawn").fetchone() == (1,)
    embedded_postgres.drop_database("copy")
    embedded_postgres.drop_database("pattern")
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    session.close()


def test_settings_reach_both_servers(settings: Settings, redis_client: redis.Redis) -> None:
    """The clients of production work with the fixtures' settings, and start from nothing."""
    assert redis_client.dbsize() == 0
    engine = postgres_engine(settings)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM accounts")) == 0
    engine.dispose()


def test_servers_have_sessions_of_their_own(own_redis: EmbeddedRedis) -> None:
    """A terminal's Ctrl-C reaches a session's foreground group, and so not the servers."""
    assert os.getsid(own_redis.pid) == own_redis.pid


def test_server_that_ends_at_start_shows_its_log(own_redis: EmbeddedRedis) -> None:
    """The error ends with the last lines of the log, on one line."""
    own_redis.stop()
    (own_redis.directory / "appendonly.aof").write_bytes(b"*not an append-only file")
    with pytest.raises(ServerFailed, match=r"ended at start.*append only file") as caught:
        own_redis.start()
    assert "\n" not in str(caught.value)


class Helper(ServerProcess):
    """A server of which only the programs that prepare it are run."""

    def _command(self) -> list[str]:
        return []

    def _answers(self) -> bool:
        return False


def test_program_that_takes_too_long_ends_with_all_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """What initdb forked must not go on writing into a directory that is being removed."""
    heard = bytearray()

    def is_over() -> bool:
        """Whether nobody holds the other side any more: only then a read finds the end."""
        try:
            piece = os.read(reader, 100)
        except BlockingIOError:
            return False
        heard.extend(piece)
        return not piece

    with scratch_directory() as scratch:
        helper = Helper("helper", scratch=scratch)
        held = helper.directory / "held"
        os.mkfifo(held)
        held.chmod(0o666)
        reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
        try:
            for seconds in (0.5, 5, 20):  # the more the slower a machine starts a shell
                monkeypatch.setattr(process, "READY_SECONDS", seconds)
                with pytest.raises(ServerFailed):
                    helper.run(["/bin/sh", "-c", "exec 9>held; echo started >&9; sleep 300 & wait"])
                eventually(is_over, within_seconds=10, what="the end of all that it started")
                if heard:
                    break
            assert heard == b"started\n"
        finally:
            os.close(reader)
