"""One day (UTC) of a list against what we have of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection

from billing.money import ARITHMETIC, ZERO
from relay.providers import agora
from relay.reconciliation.listing import Readable
from relay.reconciliation.tally import Listed
from relay.store import reconciling
from relay.store.reconciling import Ours

# Agents in one look-up.
_BATCH: Final = 1_000


@dataclass(slots=True)
class Day:
    """What one account had on a day: by what we know, and by what its provider lists."""

    sessions: int = 0
    provider_sessions: int = 0
    duration_seconds: Decimal = ZERO
    provider_duration_seconds: Decimal = ZERO
    amounts: dict[str, Decimal] = field(default_factory=dict)
    provider_cost_usd: Decimal | None = None

    def has(self, ours: Ours) -> None:
        """Count a session."""
        self.sessions += 1
        self.duration_seconds = ARITHMETIC.add(self.duration_seconds, ours.duration_seconds or ZERO)
        if ours.currency is not None:
            amount = self.amounts.get(ours.currency, ZERO)
            self.amounts[ours.currency] = ARITHMETIC.add(amount, ours.cost or ZERO)

    def lists(self, theirs: Listed) -> None:
        """Count a call of the provider's."""
        self.provider_sessions += 1
        self.provider_duration_seconds = ARITHMETIC.add(self.provider_duration_seconds, theirs.seconds)
        if theirs.cost_usd is not None:
            self.provider_cost_usd = ARITHMETIC.add(self.provider_cost_usd or ZERO, theirs.cost_usd)

    def row(self) -> dict[str, Any]:
        """Its columns. An account has one currency; should there be two, the larger amount is shown."""
        currency, amount = max(self.amounts.items(), key=lambda one: one[1], default=("", ZERO))
        return {
            "sessions": self.sessions,
            "provider_sessions": self.provider_sessions,
            "duration_seconds": self.duration_seconds,
            "provider_duration_seconds": self.provider_duration_seconds,
            "amount": amount,
            "currency": currency,
            "provider_cost_usd": self.provider_cost_usd,
        }


def begins(day: date) -> datetime:
    """Its first moment."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def compared(connection: Connection, source: Readable, day: date, listed: Sequence[Listed]) -> list[dict[str, Any]]:
    """The rows of a day, of every account that has something of it here or there.

    Sessions of an account that ran in a workspace which this list is not of are left out. Accounts with a key of their
    own are compared by the list that it opens.
    """
    found: dict[str, Day] = {}
    if source.is_own:
        account_ids = frozenset({source.account_id})
    else:
        others = reconciling.own_keys(connection, provider=source.provider)
        account_ids = reconciling.accounts_of_operator(connection, provider=source.provider)
        account_ids = (account_ids | {one.account_id for one in listed}) - others
    for one in listed:
        if one.account_id in account_ids:
            found.setdefault(one.account_id, Day()).lists(one)
    known = {(one.account_id, one.conversation_id) for one in listed}
    ours = list(
        reconciling.of_day(
            connection,
            provider=source.provider,
            account_ids=account_ids,
            since=begins(day),
            until=begins(day) + timedelta(days=1),
        )
    )
    unlisted = [one for one in ours if (one.account_id, one.conversation_id) not in known]
    elsewhere = _elsewhere(connection, source, unlisted)
    for session in ours:
        if (session.account_id, session.conversation_id) not in elsewhere:
            found.setdefault(session.account_id, Day()).has(session)
    return [
        {"account_id": account_id, "provider": source.provider, "day": day, **found[account_id].row()}
        for account_id in sorted(found)
    ]


def _elsewhere(connection: Connection, source: Readable, unlisted: Sequence[Ours]) -> set[tuple[str, str]]:
    """Those of these sessions that this list cannot have: their agents are in another workspace."""
    held = set(_held(connection, source.provider, {agent for one in unlisted if (agent := _agent(source, one))}))
    is_here = not source.is_own
    return {
        (one.account_id, one.conversation_id)
        for one in unlisted
        if ((one.account_id, _agent(source, one)) in held) is not is_here
    }


def _agent(source: Readable, session: Ours) -> str | None:
    return session.conversation_id if source.provider == agora.NAME else session.agent_id


def _held(connection: Connection, provider: str, agent_ids: Collection[str]) -> Iterable[tuple[str, str]]:
    ordered = sorted(agent_ids)
    for first in range(0, len(ordered), _BATCH):
        part = ordered[first : first + _BATCH]
        for agent_id, holders in reconciling.holders(connection, provider=provider, agent_ids=part).items():
            yield from ((one.account_id, agent_id) for one in holders)
