"""A partition for each day, the default one for the rest, and forgetting whole days."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Connection, select, text

from relay.errors import Unavailable
from relay.store import deliveries as shown
from relay.store import partitions
from relay.store.database import Database
from relay.store.tables import attempts, deliveries, events

TODAY = date(2031, 5, 20)


def _insert_delivery(connection: Connection, day: date, event_id: str = "evt_1") -> None:
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    facts = {"event_id": event_id, "endpoint_id": "ep_1", "day": day}
    settled = {"account_id": "acc_1", "status": "delivered", "attempts": 1, "accepted_at": at}
    connection.execute(deliveries.insert().values(**facts, **settled, last_stream_id=shown.sortable("5-0")))
    connection.execute(attempts.insert().values(**facts, number=1, at=at, http_status=200))


def _partition_of(connection: Connection, table: str) -> list[str]:
    return list(connection.execute(text(f"SELECT tableoid::regclass::text FROM {table} ORDER BY day")).scalars())


def test_makes_yesterday_to_two_weeks_ahead_for_both_tables(database: Database) -> None:
    """Sixteen days and two tables are thirty-two partitions."""
    with database.begin() as connection:
        made = partitions.ensure(connection, TODAY)

    assert len(made) == 32
    assert (made[0], made[15]) == ("deliveries_20310519", "deliveries_20310603")
    assert (made[16], made[31]) == ("attempts_20310519", "attempts_20310603")


def test_making_them_again_makes_nothing(database: Database) -> None:
    """The next day's run adds one day to each table."""
    with database.begin() as connection:
        partitions.ensure(connection, TODAY)
        assert partitions.ensure(connection, TODAY) == []
        next_day = partitions.ensure(connection, TODAY + timedelta(days=1))

    assert next_day == ["deliveries_20310604", "attempts_20310604"]


def test_two_processes_may_make_them_at_once(database: Database) -> None:
    """Runs that start together take turns, and only one makes them."""

    def ensure(_: int) -> int:
        with database.begin() as connection:
            return len(partitions.ensure(connection, TODAY))

    with ThreadPoolExecutor() as pool:
        assert sorted(pool.map(ensure, range(3))) == [0, 0, 32]


def test_a_row_goes_to_its_day_or_else_to_the_default_partition(database: Database) -> None:
    """A day without a partition is not a reason to refuse a record."""
    with database.begin() as connection:
        partitions.ensure(connection, TODAY)
        _insert_delivery(connection, TODAY)
        _insert_delivery(connection, TODAY + timedelta(days=300))

        assert _partition_of(connection, "deliveries") == ["deliveries_20310520", "deliveries_default"]
        assert _partition_of(connection, "attempts") == ["attempts_20310520", "attempts_default"]


def test_rows_in_the_default_partition_move_to_their_day_once_it_exists(database: Database) -> None:
    """Partitions that were made too late do not leave rows behind."""
    with database.begin() as connection:
        _insert_delivery(connection, TODAY)
        assert _partition_of(connection, "deliveries") == ["deliveries_default"]

        partitions.ensure(connection, TODAY)

        assert _partition_of(connection, "deliveries") == ["deliveries_20310520"]
        assert _partition_of(connection, "attempts") == ["attempts_20310520"]


def test_a_new_partition_has_the_keys_and_checks_of_its_table(database: Database) -> None:
    """The primary key and the four indexes of deliveries are there, attached to their parents."""
    attached = text(
        "SELECT count(*) FROM pg_index JOIN pg_inherits ON inhrelid = indexrelid "
        "WHERE indrelid = 'deliveries_20310520'::regclass"
    )
    with database.begin() as connection:
        partitions.ensure(connection, TODAY)
        assert connection.execute(attached).scalar_one() == 5


def test_forgets_whole_days_before_a_day(database: Database) -> None:
    """Older partitions are dropped, older rows of the default partition and of events deleted, that day is kept."""
    long_ago = TODAY - timedelta(days=30)
    with database.begin() as connection:
        partitions.ensure(connection, TODAY, 0)
        for number, day in enumerate((long_ago, TODAY - timedelta(days=1), TODAY)):
            _insert_delivery(connection, day, f"evt_{number}")
            _insert_event(connection, day, f"evt_{number}")

        assert partitions.drop_before(connection, TODAY) == ["deliveries_20310519", "attempts_20310519"]

        assert connection.execute(select(deliveries.c.event_id)).scalars().all() == ["evt_2"]
        assert connection.execute(select(attempts.c.event_id)).scalars().all() == ["evt_2"]
        assert connection.execute(select(events.c.id)).scalars().all() == ["evt_2"]


def test_gives_up_on_a_table_that_stays_locked(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a lock without end would make all deliveries wait behind it."""
    monkeypatch.setattr(partitions, "_LOCK_TIMEOUT", "50ms")
    with database.begin() as reader:
        reader.execute(select(deliveries))
        with pytest.raises(Unavailable), database.begin() as connection:
            partitions.ensure(connection, TODAY)


def test_makes_them_while_deliveries_are_recorded(database: Database) -> None:
    """A transaction that writes to an existing day neither waits nor is waited for."""
    with database.begin() as connection:
        partitions.ensure(connection, TODAY)
    with database.begin() as writer:
        _insert_delivery(writer, TODAY)
        with database.begin() as connection:
            assert len(partitions.ensure(connection, TODAY + timedelta(days=1))) == 2


def _insert_event(connection: Connection, day: date, event_id: str) -> None:
    facts = {"id": event_id, "day": day, "account_id": "acc_1", "provider": "retell", "kind": "call_ended"}
    more = {"event_class": "event", "conversation_id": "call_1", "session_id": 1, "livemode": True, "size_bytes": 9}
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    connection.execute(events.insert().values(**facts, **more, accepted_at=at))
