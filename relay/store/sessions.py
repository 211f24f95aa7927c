"""Sessions: one row for each conversation. The API makes them here; what ends them is charged by `billing`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, Double, RowMapping, case, cast, exists, func, select, tuple_

from relay.errors import NotFound
from relay.store.tables import session_ids, sessions, templates

SessionStatus = Literal["pending", "active", "completed", "failed", "abandoned"]

# For how long after it was made, or after its template went, a session's webhooks are expected: the longest calls (72 h
# at Agora) and what providers and their own outages add.
AWAITED: Final = timedelta(days=7)
# What opens a conversation is good for a quarter of an hour at most; a day leaves room for outages.
UNUSED: Final = timedelta(days=1)
# What opens a conversation is good for a quarter of an hour, and a template's calls last an hour at most: what was not
# heard of for so long never began, and nothing is held back for it.
HELD: Final = timedelta(hours=2)


class Session(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A session as JSON shows it: camelCase names, money as strings, seconds as numbers, times in UTC.

    `cost` None with an `unrated_reason` is a session that could not be charged; None is not zero. One with a
    `waived_reason` costs 0 in place of `list_cost`.
    """

    account_id: str
    id: int
    provider: str
    conversation_id: str | None
    template_id: int | None
    agent_id: str | None
    status: SessionStatus
    started_at: datetime | None
    ended_at: datetime | None
    duration_seconds: float | None
    billed_seconds: int | None
    currency: str | None
    cost: Decimal | None
    unrated_reason: str | None
    rate_card_id: str | None
    charge_sequence: int
    provider_cost_usd: Decimal | None
    provider_credits: Decimal | None
    livemode: bool
    metadata: dict[str, Any] | None
    created_at: datetime
    completed_at: datetime | None
    failure_code: str | None
    text_only: bool
    deleted_at: datetime | None
    turn_count: int | None
    content_erased_at: datetime | None
    tag: str | None
    pinned_card_id: str | None
    own_key: bool
    rated_at: datetime | None
    list_cost: Decimal | None
    waived_reason: str | None
    charge_lines: int
    reserved: Decimal | None
    asked_at: datetime | None


_SHOWN: Final = tuple(
    cast(column, Double).label(column.name) if column is sessions.c.duration_seconds else column
    for column in sessions.c
    if column
    not in {sessions.c.terminal_rank, sessions.c.terminal_trust, sessions.c.terminal_ms, sessions.c.url_expires_at}
)


def create(
    connection: Connection,
    *,
    account_id: str,
    provider: str,
    template_id: int | None = None,
    agent_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    livemode: bool = True,
    text_only: bool = False,
    session_id: int | None = None,
    tag: str | None = None,
    own_key: bool = False,
    reserved: Decimal | None = None,
) -> Session:
    """Make a pending session with the next id, or one that `next_id` gave; its conversation is not known yet.

    The card that its template has chosen by now is pinned to it, and the template's tag is its own unless one is given.
    `own_key`: the call will run on a key of the account's own. `reserved` is what a budget holds back for it.
    """
    template_tag = func.nullif(templates.c.config["tag"].astext, "")
    of_template = select(templates.c.rate_card_id).where(
        templates.c.id == template_id, templates.c.account_id == account_id
    )
    row = {
        "account_id": account_id,
        "id": next_id(connection) if session_id is None else session_id,
        "provider": provider,
        "template_id": template_id,
        "agent_id": agent_id,
        "metadata": None if metadata is None else dict(metadata),
        "livemode": livemode,
        "text_only": text_only,
        "tag": tag or of_template.with_only_columns(template_tag).scalar_subquery(),
        "pinned_card_id": of_template.scalar_subquery(),
        "own_key": own_key,
        "reserved": reserved,
    }
    return Session(**connection.execute(sessions.insert().values(row).returning(*_SHOWN)).mappings().one())


def next_id(connection: Connection) -> int:
    """An id for a session that is made later: a provider may have to be told it before there is a session."""
    return int(connection.execute(select(session_ids.next_value())).scalar_one())


def begun(
    connection: Connection,
    *,
    account_id: str,
    session_id: int,
    conversation_id: str | None = None,
    agent_id: str | None = None,
    status: Literal["pending", "active"] = "active",
    own_key: bool = False,
) -> None:
    """Note what a provider says of a session that has not ended: its conversation, its agent, that it began.

    What is known already stays, and so does a session that is active or has ended: its events may come in any order.
    `own_key`: it was the account's own key that the provider has taken, for a session that is pending still.
    """
    known: dict[str, ColumnElement[Any]] = {
        "conversation_id": func.coalesce(sessions.c.conversation_id, conversation_id),
        "agent_id": func.coalesce(sessions.c.agent_id, agent_id),
    }
    if status == "active":
        known["status"] = case((sessions.c.status == "pending", status), else_=sessions.c.status)
    if own_key:
        known["own_key"] = sessions.c.own_key | (sessions.c.status == "pending")
    connection.execute(sessions.update().where(*_this(account_id, session_id)).values(known))


def fail(connection: Connection, *, account_id: str, session_id: int, code: str) -> None:
    """End a session that never became a call, with a code for the account. One that has ended stays as it is.

    No key of the account's own has opened a call: a webhook that names this session all the same is charged.
    """
    failed = sessions.update().where(*_this(account_id, session_id), sessions.c.status.in_(("pending", "active")))
    ended = {"status": "failed", "failure_code": code, "completed_at": func.now(), "reserved": None, "own_key": False}
    connection.execute(failed.values(ended))


def abandon(connection: Connection, *, limit: int) -> int:
    """End sessions whose call nobody began within a day, or whose end nobody told within `AWAITED`; how many.

    A call that turns up after all is charged, and its session completes.
    """
    begins_late = (sessions.c.status == "pending") & (sessions.c.created_at < func.now() - UNUSED)
    ends_late = (sessions.c.status == "active") & (sessions.c.created_at < func.now() - AWAITED)
    late = select(sessions.c.account_id, sessions.c.id).where(begins_late | ends_late).limit(limit)
    # In the order of their keys, as billing locks them.
    locked = late.order_by(sessions.c.account_id, sessions.c.id).with_for_update(skip_locked=True).cte("late")
    these = (sessions.c.account_id == locked.c.account_id) & (sessions.c.id == locked.c.id)
    ended = sessions.update().where(these).values(status="abandoned", completed_at=func.now(), reserved=None)
    return connection.execute(ended).rowcount


def remove(connection: Connection, *, account_id: str, session_id: int) -> Session:
    """Mark a session as deleted by its customer; removing it twice keeps the first moment. Raises NotFound."""
    marked = sessions.update().where(*_this(account_id, session_id))
    removed = marked.values(deleted_at=func.coalesce(sessions.c.deleted_at, func.now())).returning(*_SHOWN)
    return _found(connection.execute(removed).mappings().one_or_none())


def get(connection: Connection, *, account_id: str, session_id: int) -> Session:
    """Raises NotFound, also for a session of another account."""
    found = select(*_SHOWN).where(*_this(account_id, session_id))
    return _found(connection.execute(found).mappings().one_or_none())


def of_conversation(connection: Connection, *, account_id: str, provider: str, conversation_id: str) -> Session:
    """The session of a provider's conversation. Raises NotFound, also for one of another account."""
    meant = (sessions.c.conversation_id == conversation_id, sessions.c.provider == provider)
    found = select(*_SHOWN).where(*meant, sessions.c.account_id == account_id)
    return _found(connection.execute(found).mappings().one_or_none())


def has_been_a_call(connection: Connection, *, account_id: str, provider: str, conversation_id: str) -> bool:
    """Whether a provider's conversation has ended as a call, or was charged for: it is that call for good."""
    meant = (sessions.c.conversation_id == conversation_id, sessions.c.provider == provider)
    ended = (sessions.c.status == "completed") | (sessions.c.charge_sequence > 0)
    found = select(exists().where(*meant, sessions.c.account_id == account_id, ended))
    return bool(connection.execute(found).scalar_one())


def page(
    connection: Connection,
    *,
    account_id: str | None = None,
    template_id: int | None = None,
    status: SessionStatus | None = None,
    unrated: bool | None = None,
    before: tuple[datetime, int] | None = None,
    limit: int = 100,
) -> list[Session]:
    """Sessions, newest first, of one account or of all; `before` is `(created_at, id)` of the last one seen.

    `unrated` True: those that could not be charged; False: the others.
    """
    newest = select(*_SHOWN).order_by(sessions.c.created_at.desc(), sessions.c.id.desc()).limit(limit)
    if account_id is not None:
        newest = newest.where(sessions.c.account_id == account_id)
    if template_id is not None:
        newest = newest.where(sessions.c.template_id == template_id)
    if status is not None:
        newest = newest.where(sessions.c.status == status)
    if unrated is not None:
        reason = sessions.c.unrated_reason
        newest = newest.where(reason.is_not(None) if unrated else reason.is_(None))
    if before is not None:
        newest = newest.where(tuple_(sessions.c.created_at, sessions.c.id) < before)
    return [Session(**row) for row in connection.execute(newest).mappings()]


def _this(account_id: str, session_id: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return sessions.c.account_id == account_id, sessions.c.id == session_id


def _found(row: RowMapping | None) -> Session:
    if row is None:
        raise NotFound("this account has no session by this id")
    return Session(**row)
