"""Upkeep of what accounts are told: their budgets are looked at, and what is due is sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from billing.budgets import watch
from relay.notices import Notices
from relay.store import budgets
from relay.store.database import Database
from relay.telemetry import logs

# Accounts in one query, and notices in one turn: more than that is sent in the next minute.
_ACCOUNTS: Final = 500
_MOST: Final = 1_000


def watch_budgets(database: Database, *, accounts: int = _ACCOUNTS) -> int:
    """Note every threshold that was crossed and not told of; how many. Raises Unavailable."""
    count, after = 0, ""
    while True:
        with database.begin() as connection:
            page = budgets.accounts_with_any(connection, after=after, limit=accounts)
            count += watch(connection, page, datetime.now(UTC)) if page else 0
        if len(page) < accounts:
            break
        after = page[-1]
    if count:
        logs.info("budgets_crossed", count=count)
    return count


def tell_accounts(database: Database, notices: Notices) -> int:
    """Look at the budgets, and send what is due; how many. Raises Unavailable.

    Safe to run twice and in several processes at once: what was crossed is noted once, and an event that was sent
    before is a repeat.
    """
    try:
        watch_budgets(database)
    finally:
        # Statements do not wait for budgets.
        sent = notices.send(limit=_MOST)
    if sent:
        logs.info("notices_sent", count=sent)
    return sent
