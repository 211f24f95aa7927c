"""What becomes of the endpoint of a template that has given it up, or is gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from relay.errors import NotFound
from relay.provisioning import Provisioning
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import audit, deliveries, endpoints, records, tables
from relay.store.database import Database
from relay.store.deliveries import sortable
from relay.store.records import DeliveryRecord
from relay.store.sessions import AWAITED

URL = "http://127.0.0.1:9/"


@pytest.fixture
def provisioning(provisioning: Provisioning) -> Provisioning:
    """In the name of upkeep."""
    return provisioning.acting_as("upkeep")


def a_template(provisioning: Provisioning, account_id: str) -> tuple[int, str]:
    """A template and its endpoint."""
    made = provisioning.create_template(
        account_id=account_id, name="T", type="conversation", config={}, client_webhook_url=URL
    )
    return made.template.id, made.template.endpoint_id or ""


def age(database: Database, by: timedelta) -> None:
    """Let everything that happened to templates have happened so long ago."""
    with database.begin() as connection:
        moved = {"updated_at": tables.templates.c.updated_at - by, "deleted_at": tables.templates.c.deleted_at - by}
        connection.execute(update(tables.templates).values(moved))


def waits(database: Database, account_id: str, endpoint_id: str, *, status: str) -> None:
    """A delivery of now."""
    now = datetime.now(UTC)
    row = DeliveryRecord(
        event_id="evt_1",
        endpoint_id=endpoint_id,
        day=now.date(),
        account_id=account_id,
        status=status,
        code=None,
        attempts=1,
        next_attempt_at=now,
        last_stream_id=sortable("1-1"),
        accepted_at=now,
        settled_at=None,
    )
    with database.begin() as connection:
        connection.execute(tables.deliveries.delete())
        records.write(connection, events=[], deliveries=[row], attempts=[], sessions=[])


def is_there(database: Database, settings: Settings, account_id: str, endpoint_id: str) -> bool:
    """Whether an endpoint still takes deliveries."""
    with database.begin() as connection:
        try:
            endpoints.get(connection, KeyRing(settings.keys), account_id=account_id, endpoint_id=endpoint_id)
        except NotFound:
            return False
    return True


@pytest.mark.parametrize("how", ["deleted", "given up"])
def test_it_is_closed_when_nothing_can_come_or_wait_for_it(
    provisioning: Provisioning, database: Database, settings: Settings, account_id: str, how: str
) -> None:
    """Not while events of its last calls may come, nor while one waits; then it is, and that is audited."""
    template_id, endpoint_id = a_template(provisioning, account_id)
    _, other = a_template(provisioning, account_id)
    if how == "deleted":
        provisioning.delete_template(account_id=account_id, template_id=template_id)
    else:
        provisioning.update_template(account_id=account_id, template_id=template_id, client_webhook_url=None)
    waits(database, account_id, endpoint_id, status="delivered")

    assert provisioning.close_unused_endpoints(10) == 0
    age(database, AWAITED + timedelta(minutes=1))
    waits(database, account_id, endpoint_id, status="pending")
    assert provisioning.close_unused_endpoints(10) == 0
    assert is_there(database, settings, account_id, endpoint_id)

    waits(database, account_id, endpoint_id, status="delivered")
    assert [provisioning.close_unused_endpoints(10) for _ in range(2)] == [1, 0]
    assert not is_there(database, settings, account_id, endpoint_id)
    assert is_there(database, settings, account_id, other)
    with database.begin() as connection:
        newest = audit.page(connection, account_id=account_id, limit=1)[0]
        assert deliveries.page(connection, account_id=account_id)
    assert (newest.action, newest.object_id, newest.actor) == ("endpoint.deleted", endpoint_id, "upkeep")
