"""What is known here of a provider's calls: their sessions, the events that told of their ends, and whose they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, and_, case, func, literal, or_, select, tuple_, union, union_all
from sqlalchemy.dialects.postgresql import INTERVAL

from relay.store.tables import (
    accounts,
    agora_agents,
    events,
    provider_grants,
    provider_keys,
    sessions,
    sources,
    templates,
    voice_agents,
)

_AGORA: Final = "agora"
# Rows in memory at once.
_CHUNK: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A session as far as reconciliation needs it.

    `terminal_ms` None: nobody told of its end. `rated_at` chose its card and month: its start, or else when its end was
    told. `asked_at` is when its provider was asked for that end.
    """

    account_id: str
    id: int
    conversation_id: str
    template_id: int | None
    rated_at: datetime | None
    duration_seconds: Decimal | None
    unrated_reason: str | None
    terminal_ms: int | None
    terminal_trust: int | None
    terminal_rank: int | None
    asked_at: datetime | None
    livemode: bool
    content_erased_at: datetime | None
    deleted_at: datetime | None


class Holder(NamedTuple):
    """An account that may use an agent, and since when."""

    account_id: str
    since: datetime


class Stuck(NamedTuple):
    """A session whose end should have been told by now."""

    account_id: str
    id: int
    provider: str
    conversation_id: str
    created_at: datetime


_KNOWN: Final = tuple(sessions.c[name] for name in Known.__slots__)


def by_conversations(
    connection: Connection, *, provider: str, conversation_ids: Collection[str], account_id: str | None = None
) -> dict[str, list[Known]]:
    """The sessions of these conversations, of one account or of all."""
    meant = select(*_KNOWN).where(sessions.c.conversation_id.in_(conversation_ids), sessions.c.provider == provider)
    if account_id is not None:
        meant = meant.where(sessions.c.account_id == account_id)
    found: dict[str, list[Known]] = {}
    for row in connection.execute(meant).mappings():
        found.setdefault(row["conversation_id"], []).append(Known(**row))
    return found


def told(
    connection: Connection, *, account_id: str, provider: str, conversation_ids: Collection[str]
) -> frozenset[str]:
    """Those of these conversations of which an event that completes the session was accepted."""
    meant = (events.c.account_id == account_id, events.c.conversation_id.in_(conversation_ids))
    complete = (events.c.provider == provider, events.c.event_class == "complete")
    return frozenset(connection.execute(select(events.c.conversation_id).where(*meant, *complete)).scalars())


def holders(connection: Connection, *, provider: str, agent_ids: Collection[str]) -> dict[str, list[Holder]]:
    """Who may use these agents with the operator's key: whom they were made for here, or granted to.

    At Agora each agent is of one call: whose it is, is known since it joined.
    """
    found: dict[str, list[Holder]] = {}
    if provider == _AGORA:
        rows = select(agora_agents.c.agent_id, agora_agents.c.account_id, sessions.c.created_at).join(
            sessions,
            (sessions.c.account_id == agora_agents.c.account_id) & (sessions.c.id == agora_agents.c.session_id),
        )
        every: Any = rows.where(agora_agents.c.agent_id.in_(agent_ids))
    else:
        made = (voice_agents.c.provider == provider, voice_agents.c.created_here, voice_agents.c.made_with.is_(None))
        columns = (voice_agents.c.account_id, voice_agents.c.created_at)
        granted = select(provider_grants.c.object_id, provider_grants.c.account_id, provider_grants.c.created_at)
        every = union_all(
            select(voice_agents.c.agent_id, *columns).where(*made, voice_agents.c.agent_id.in_(agent_ids)),
            select(voice_agents.c.leftover_id, *columns).where(*made, voice_agents.c.leftover_id.in_(agent_ids)),
            granted.where(provider_grants.c.provider == provider, provider_grants.c.object_id.in_(agent_ids)),
        )
    for agent_id, account_id, since in connection.execute(every):
        found.setdefault(agent_id, []).append(Holder(account_id, since))
    return found


def reported(
    connection: Connection, *, account_id: str, provider: str, agent_ids: Collection[str]
) -> tuple[datetime | None, dict[str, list[Holder]]]:
    """Of which agents in its own workspace an account has its calls reported: since when of all, and of these.

    Of all, where a source of its own takes what the provider sends; else of those that its templates have.
    """
    own = (sources.c.account_id == account_id, sources.c.provider == provider, sources.c.disabled_at.is_(None))
    taking = select(func.min(sources.c.created_at)).where(*own, sources.c.deleted_at.is_(None), ~sources.c.managed)
    since = connection.execute(taking).scalar_one()
    mine = (templates.c.account_id == account_id, templates.c.provider == provider)
    bound = select(templates.c.agent_id, templates.c.created_at).where(*mine, templates.c.agent_id.in_(agent_ids))
    found: dict[str, list[Holder]] = {}
    for agent_id, created_at in connection.execute(bound):
        found.setdefault(agent_id, []).append(Holder(account_id, created_at))
    return since, found


def accounts_of_operator(connection: Connection, *, provider: str) -> frozenset[str]:
    """The accounts that use something at this provider with the operator's key, and have no key of their own."""
    made = (voice_agents.c.provider == provider, voice_agents.c.created_here, voice_agents.c.made_with.is_(None))
    every = [
        select(voice_agents.c.account_id).where(*made),
        select(provider_grants.c.account_id).where(provider_grants.c.provider == provider),
    ]
    if provider == _AGORA:
        every.append(select(agora_agents.c.account_id))
    return frozenset(connection.execute(union(*every)).scalars()) - own_keys(connection, provider=provider)


def own_keys(connection: Connection, *, provider: str) -> frozenset[str]:
    """The accounts that have a key of their own at this provider."""
    own = select(provider_keys.c.account_id).where(provider_keys.c.provider == provider)
    return frozenset(connection.execute(own).scalars())


def existing(connection: Connection, account_ids: Collection[str]) -> frozenset[str]:
    """Those of these that are accounts."""
    return frozenset(connection.execute(select(accounts.c.id).where(accounts.c.id.in_(account_ids))).scalars())


def keyed(connection: Connection) -> list[tuple[str, str]]:
    """Account and provider, of every key of an account's own, in the order in which they were stored."""
    rows = select(provider_keys.c.account_id, provider_keys.c.provider).order_by(provider_keys.c.created_at)
    return [(row.account_id, row.provider) for row in connection.execute(rows)]


def projects(connection: Connection, *, account_id: str | None) -> list[str]:
    """The projects of Agora in which agents were started here: by one account, or with the operator's key."""
    started = select(agora_agents.c.appid).distinct()
    if account_id is not None:
        return sorted(connection.execute(started.where(agora_agents.c.account_id == account_id)).scalars())
    own = select(provider_keys.c.account_id).where(provider_keys.c.provider == _AGORA)
    granted = select(provider_grants.c.object_id).where(provider_grants.c.provider == _AGORA)
    used = started.where(agora_agents.c.account_id.not_in(own))
    return sorted({*connection.execute(used).scalars(), *connection.execute(granted).scalars()})


def project_of(connection: Connection, *, account_id: str, agent_id: str) -> str | None:
    """The project of Agora in which an account's agent was started here."""
    this = (agora_agents.c.account_id == account_id, agora_agents.c.agent_id == agent_id)
    found: str | None = connection.execute(select(agora_agents.c.appid).where(*this)).scalar_one_or_none()
    return found


class Ours(NamedTuple):
    """A session that has ended, as a day counts it."""

    account_id: str
    conversation_id: str
    agent_id: str | None
    duration_seconds: Decimal | None
    cost: Decimal | None
    currency: str | None


def of_day(
    connection: Connection, *, provider: str, account_ids: Collection[str], since: datetime, until: datetime
) -> Iterator[Ours]:
    """The sessions of these accounts that began from `since` to before `until`, and whose end is known."""
    columns = tuple(sessions.c[name] for name in Ours._fields)
    for account_id in sorted(account_ids):
        # `rated_at` is the start where that is known, and has the index.
        within = (sessions.c.rated_at >= since, sessions.c.rated_at < until, sessions.c.started_at.is_not(None))
        ended = (sessions.c.terminal_ms.is_not(None), sessions.c.livemode, sessions.c.conversation_id.is_not(None))
        mine = select(*columns).where(sessions.c.account_id == account_id, sessions.c.provider == provider)
        rows = connection.execute(mine.where(*within, *ended), execution_options={"yield_per": _CHUNK})
        for row in rows:
            yield Ours(*row)


def stuck(
    connection: Connection,
    *,
    providers: Collection[str],
    usual: timedelta,
    agora: timedelta,
    pending: timedelta,
    slack: timedelta,
    after: Stuck | None = None,
    limit: int,
) -> list[Stuck]:
    """Sessions that have lasted longer than they may, and of which their provider was not asked yet; oldest first.

    They may last as long as their template says, else as `usual`, at Agora as `agora`; none that is pending, as long
    as `pending`. `providers` are those that can be asked with the operator's key; others, where the account has one.
    `after` is the last one seen.
    """
    seconds = templates.c.config["maxDurationSeconds"].as_integer()
    own = func.make_interval(0, 0, 0, 0, 0, 0, func.coalesce(seconds, literal(usual.total_seconds())))
    longest = case((sessions.c.provider == _AGORA, literal(agora, INTERVAL)), else_=own) + literal(slack, INTERVAL)
    may_last = case((sessions.c.status == "pending", func.least(longest, literal(pending, INTERVAL))), else_=longest)
    has_key = select(provider_keys.c.account_id).where(
        provider_keys.c.account_id == sessions.c.account_id, provider_keys.c.provider == sessions.c.provider
    )
    of_template = and_(templates.c.id == sessions.c.template_id, templates.c.account_id == sessions.c.account_id)
    columns = tuple(sessions.c[name] for name in Stuck._fields)
    place = (sessions.c.created_at, sessions.c.account_id, sessions.c.id)
    found = (
        select(*columns)
        .select_from(sessions.outerjoin(templates, of_template))
        # The index of open sessions has their creation alone.
        .where(
            sessions.c.status.in_(("pending", "active")), sessions.c.created_at < func.now() - literal(slack, INTERVAL)
        )
        .where(sessions.c.created_at < func.now() - may_last)
        .where(sessions.c.asked_at.is_(None), sessions.c.terminal_ms.is_(None), sessions.c.livemode)
        .where(sessions.c.conversation_id.is_not(None), sessions.c.conversation_id.not_like("session-%"))
        .where(or_(sessions.c.provider.in_(providers), has_key.exists()))
        .order_by(*place)
        .limit(limit)
    )
    if after is not None:
        # The first column for its own sake: the index has it alone.
        seen = (after.created_at, after.account_id, after.id)
        found = found.where(sessions.c.created_at >= after.created_at, tuple_(*place) > seen)
    return [Stuck(*row) for row in connection.execute(found)]


def asked(connection: Connection, *, account_id: str, provider: str, conversation_id: str) -> None:
    """Note that the provider was asked what became of a conversation, and has answered."""
    meant = (sessions.c.conversation_id == conversation_id, sessions.c.provider == provider)
    connection.execute(sessions.update().where(*meant, sessions.c.account_id == account_id).values(asked_at=func.now()))
