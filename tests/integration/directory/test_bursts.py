"""Many changes of one account, and what they cost the others: one look at a version each, and no waiting."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from relay.directory import Directory, Mirror
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store.database import Database
from relay.store.snapshot import AccountConfig
from tests.customers import Customer, Customers

WAIT_SECONDS = 10.0


class WatchedMirror(Mirror):
    """Counts what is asked of each account, and holds up the reading of one until it is told to go on."""

    def watch(self, held: str | None = None) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.held = held
        self.is_reading = threading.Event()
        self.go_on = threading.Event()

    def version(self, account_id: str) -> int | None:
        self.asked[account_id, "version"] += 1
        return super().version(account_id)

    def get(self, account_id: str) -> AccountConfig | None:
        self.asked[account_id, "whole"] += 1
        if account_id == self.held:
            self.is_reading.set()
            assert self.go_on.wait(WAIT_SECONDS)
        return super().get(account_id)


@pytest.fixture
def ring(settings: Settings) -> KeyRing:
    return KeyRing(settings.keys)


@pytest.fixture
def mirror(redis_client: redis.Redis, ring: KeyRing) -> WatchedMirror:
    mirror = WatchedMirror(redis_client, ring)
    mirror.watch()
    return mirror


@pytest.fixture
def directory(mirror: WatchedMirror, ring: KeyRing, database: Database) -> Directory:
    return Directory(mirror, ring, database)


@pytest.fixture
def busy(settings: Settings, database: Database, redis_client: redis.Redis) -> Customer:
    """An account that changes all the time."""
    return Customers(settings, database, redis_client).create()


@pytest.fixture
def other(settings: Settings, database: Database, redis_client: redis.Redis) -> Customer:
    """An account that does not."""
    return Customers(settings, database, redis_client).create()


def test_a_burst_of_changes_costs_another_account_one_look_at_its_version_each(
    directory: Directory, mirror: WatchedMirror, busy: Customer, other: Customer
) -> None:
    """Nothing of it is read again, however often the version of all moves."""
    view = directory.account(other.id)
    for number in range(1, 6):
        busy.endpoint("http://127.0.0.1:9/")
        directory.saw(number)
        mirror.watch()
        assert len(directory.account(busy.id).endpoints) == number
        assert directory.account(other.id) is view
        assert directory.account(other.id) is view
        assert {what: n for (account, what), n in mirror.asked.items() if account == other.id} == {"version": 1}


def test_nobody_waits_while_another_account_is_read(
    directory: Directory, mirror: WatchedMirror, busy: Customer, other: Customer
) -> None:
    """Neither an account that is cached nor one that is not: an account that is slow to read holds up itself alone."""
    view = directory.account(other.id)
    directory.saw(1)
    mirror.watch(held=busy.id)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(directory.account, busy.id)
        try:
            assert mirror.is_reading.wait(WAIT_SECONDS)
            assert directory.account(other.id) is view
            assert directory.reload(other.id).account_id == other.id
            assert not reading.done()
        finally:
            mirror.go_on.set()
        assert reading.result(WAIT_SECONDS).account_id == busy.id


def test_an_account_that_many_want_at_once_is_read_once(
    directory: Directory, mirror: WatchedMirror, busy: Customer
) -> None:
    """The others take what the first has read."""
    mirror.watch(held=busy.id)
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(directory.account, busy.id) for _ in range(8)]
        assert mirror.is_reading.wait(WAIT_SECONDS)
        mirror.go_on.set()
        views = {id(one.result(WAIT_SECONDS)) for one in asking}
    assert len(views) == 1
    assert mirror.asked[busy.id, "whole"] == 1
