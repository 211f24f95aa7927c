"""The examination: asks everything once, in order, and goes on where something does not answer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing

import redis

from relay.connections import postgres_engine, redis_client
from relay.directory import Mirror
from relay.doctor import backlog, clocks, configuration, postgres_server, redis_server, surroundings
from relay.doctor.finding import Finding, fail, ok, skipped
from relay.errors import SettingsError, SwitchhookError, Unavailable
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import server
from relay.store.database import Database

Answers = Generator[Finding, None, bool]


def examine(read_settings: Callable[[], Settings] = Settings.from_environ) -> Iterator[Finding]:
    """Every finding, as it is made. What cannot be asked is a finding itself."""
    try:
        settings = read_settings()
        client = redis_client(settings)
    except SettingsError as error:
        yield fail("settings", error.detail, "see the table of settings in README.md")
        return
    yield ok("settings", "they make sense")
    database = Database(postgres_engine(settings, pool_size=1))
    with closing(client), closing(database):
        has_redis = yield from _redis(client, settings)
        has_schema = yield from _postgres(database, settings)
        ring = yield from _keys(settings)
        if ring is not None and has_schema:
            yield from _sealed(database, ring)
        if ring is not None and has_schema and has_redis:
            yield from _mirror(database, Mirror(client, ring))
        if has_redis:
            yield from _contained("outbox", lambda: backlog.examine(client))
    yield from surroundings.examine(settings)


def _redis(client: redis.Redis, settings: Settings) -> Answers:
    """Whether it answers is what is returned."""
    try:
        yield from redis_server.examine(client, settings)
        yield clocks.judged("redis", clocks.difference(lambda: _redis_seconds(client)))
    except redis.RedisError as error:
        advice = "start it, or check REDIS_URL: until then web answers 503"
        yield fail("redis: answers", f"not: {type(error).__name__}", advice)
        return False
    return True


def _redis_seconds(client: redis.Redis) -> float:
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6


def _postgres(database: Database, settings: Settings) -> Answers:
    """Whether it answers and has a schema is what is returned."""
    try:
        with database.begin() as connection:
            yield from postgres_server.examine(connection, settings)
            yield clocks.judged("postgres", clocks.difference(lambda: server.now_seconds(connection)))
            return (yield from postgres_server.examine_schema(connection))
    except Unavailable as error:
        advice = "start it, or check DATABASE_URL: events are taken and delivered, records and bills wait"
        yield fail("postgres: answers", f"not: {error.detail}", advice)
    except SwitchhookError as error:
        advice = "check what the role of DATABASE_URL may do, and the options in the URL: waiting does not mend this"
        yield fail("postgres: answers", f"not as it should: {error.detail}", advice)
    return False


def _keys(settings: Settings) -> Generator[Finding, None, KeyRing | None]:
    try:
        ring = KeyRing(settings.keys)
    except SettingsError as error:
        yield fail("sealing keys", error.detail, "no process starts without them")
        return None
    yield configuration.examine_keys(ring)
    return ring


def _sealed(database: Database, ring: KeyRing) -> Iterator[Finding]:
    def ask() -> list[Finding]:
        with database.begin() as connection:
            return [configuration.examine_rows(connection, ring)]

    yield from _contained("sealed configuration", ask)


def _mirror(database: Database, mirror: Mirror) -> Iterator[Finding]:
    def ask() -> list[Finding]:
        with database.begin() as connection:
            return list(configuration.examine_mirror(connection, mirror))

    yield from _contained("configuration in Redis", ask)


def _contained(check: str, ask: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from ask()
    except SwitchhookError as error:
        yield skipped(check, f"could not be asked: {error.detail}")
