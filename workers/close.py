"""Closing months by itself: whatever month's draft is over, for every account."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from billing.statements import closing
from billing.statements.closing import Closed
from relay.errors import Unavailable
from relay.store import audit, server
from relay.store.database import Database
from relay.telemetry import logs


def close_months(
    database: Database,
    *,
    now: datetime | None = None,
    goes_on: Callable[[], bool] = lambda: True,
    on_closed: Callable[[Closed], None] | None = None,
) -> int:
    """Close the months whose drafts are over; how many statements were made. One account's trouble is its own.

    What is over is told by Postgres' clock unless `now` is given: closing cannot be undone. Where `goes_on` is False no
    further account is begun. `on_closed` is told of each statement once it is committed. Raises Unavailable, after the
    other accounts.
    """
    with database.begin() as connection:
        moment = now or server.now(connection)
        month, waiting = closing.due(connection, now=moment)
    made, away = 0, None
    for account_id in waiting:
        if not goes_on():
            break
        try:
            done = closing.close(database, account_id, month, actor=audit.UPKEEP, now=moment, on_closed=on_closed)
        except Unavailable as error:
            away = error
        except Exception as error:
            logs.failure("statement_not_closed", error, account_id=account_id)
        else:
            made += len(done)
    if made:
        logs.info("statements_closed", count=made)
    if away is not None:
        raise away
    return made
