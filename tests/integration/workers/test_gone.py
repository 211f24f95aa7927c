"""What a worker does about an endpoint that answered 410: nothing goes there any more, and the audit says so."""

from __future__ import annotations

import redis

from relay.queues import celery_app
from relay.settings import Settings
from relay.store import accounts, audit, endpoints
from relay.store.database import Database
from workers.app import Worker


def test_an_endpoint_that_answered_410_is_closed_once(
    settings: Settings, database: Database, redis_client: redis.Redis
) -> None:
    """As upkeep's doing, mirrored; told again, nothing more happens, and of one that is unknown nothing at all."""
    worker = Worker(settings, celery_app(settings), ())
    with database.begin() as connection:
        account_id = accounts.create(connection, name="Acme").id
        made = endpoints.create(connection, worker.ring, account_id=account_id, url="https://customer.example/")
    for endpoint_id in (made.id, made.id, "ep_" + "a" * 26):
        worker._endpoint_gone(account_id, endpoint_id)
    with database.begin() as connection:
        row = endpoints.get(connection, worker.ring, account_id=account_id, endpoint_id=made.id)
        (change,) = audit.page(connection, account_id=account_id)
    worker.database.close()
    mirrored = worker.mirror.get(account_id)
    assert mirrored is not None
    assert (row.state, [one.state for one in mirrored.endpoints]) == ("gone", ["gone"])
    assert (change.actor, change.action, change.object_id) == ("upkeep", "endpoint.gone", made.id)
    assert change.before_sha256 != change.after_sha256
