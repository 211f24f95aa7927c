"""Migration 0008: sessions that were there stay as they are, and the version before goes on beside it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from alembic import command
from sqlalchemy import text

from relay.connections import postgres_engine
from relay.store import migrating, signed_urls
from relay.store.database import Database
from relay.store.migrating import migrate
from relay.store.signed_urls import LIFETIME, Lasting
from tests.integration.store.conftest import settings_for

# As the version before writes them: it does not name the column.
BEGUN = """
    INSERT INTO sessions (account_id, id, provider, livemode, own_key, reserved, created_at)
    VALUES ('acc_1', :id, 'elevenlabs', true, false, 1, now() - make_interval(secs => :ago))
"""
ACTIVE = "UPDATE sessions SET status = 'active' WHERE id = :id"
SHOWN = "SELECT status, reserved, url_expires_at FROM sessions WHERE id = :id"


@pytest.fixture
def old(empty_database_url: str) -> Iterator[Database]:
    """A database of the version before, with a session of five minutes ago."""
    engine = postgres_engine(settings_for(empty_database_url))
    with engine.connect() as connection:
        config = migrating._alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
    database = Database(engine)
    with database.begin() as connection:
        connection.execute(text(BEGUN), {"id": 1, "ago": 300})
    yield database
    database.close()


def test_sessions_of_the_version_before_were_given_a_url_when_they_were_made(old: Database) -> None:
    """Those that were there, and those that it makes beside the newer one; what it changes it still can."""
    migrate(settings_for(old.engine.url.render_as_string(hide_password=False)))

    with old.begin() as connection:
        assert connection.execute(text(SHOWN), {"id": 1}).one() == ("pending", 1, None)
        connection.execute(text(BEGUN), {"id": 2, "ago": 900})
        connection.execute(text(ACTIVE), {"id": 2})
        lasting = signed_urls.take(connection, account_id="acc_1", session_id=1)
        taken = signed_urls.take(connection, account_id="acc_1", session_id=2)
        status, _, until = connection.execute(text(SHOWN), {"id": 2}).one()
    assert isinstance(lasting, Lasting)
    assert 590 < lasting.seconds <= (LIFETIME - timedelta(seconds=300)).total_seconds()
    assert (status, until) == ("active", taken)
