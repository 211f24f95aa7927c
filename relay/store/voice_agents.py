"""Voice agents at providers: what each template should have there, and how far that has come.

Whoever changes a template calls `want` or `remove` in the same transaction. Whoever then talks to the provider takes
the row first (`take`, `due`): the lease, `busy_until`, is also the token with which the result is told, so that one
process at a time works on a row and a late one changes nothing. `attempts` counts the tries since the last success,
the running one too: more than one means that an earlier one may have left something at the provider.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Update, func, literal, select
from sqlalchemy.dialects.postgresql import INTERVAL, insert

from relay.store import accounts
from relay.store.tables import templates, voice_agents

AgentStatus = Literal["pending", "synced", "failed", "removing", "removed"]

# A try is some ten calls, each a matter of seconds. One that outlives its lease changes nothing (see `strand`).
LEASE: Final = timedelta(minutes=5)
# What the provider refused may have been put right there (a voice bought, say), so it is tried again now and then.
REFUSED_AGAIN: Final = timedelta(hours=1)
_OPEN: Final[tuple[AgentStatus, ...]] = ("pending", "failed", "removing")
# Where an agent is made for a template; elsewhere agents are brought, or are made anew for each call.
MANAGED: Final = frozenset({"elevenlabs"})


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceAgent:
    """One template's agent. `code` says why the last try failed.

    `created_here` False: the customer brought it, and it is neither changed nor deleted. `leftover_id` is an agent of
    ours that has to go.
    """

    account_id: str
    template_id: int
    provider: str
    agent_id: str | None
    leftover_id: str | None
    created_here: bool
    status: AgentStatus
    wanted: int
    synced: int
    attempts: int
    next_attempt_at: datetime
    busy_until: datetime | None
    code: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def is_clean(self) -> bool:
        """Whether nothing of ours can be at the provider."""
        return self.attempts == 0 and self.leftover_id is None and not (self.created_here and self.agent_id)


def want(
    connection: Connection,
    *,
    account_id: str,
    template_id: int,
    provider: str,
    created_here: bool = True,
    agent_id: str | None = None,
) -> VoiceAgent:
    """The template was made or changed: its agent is due now. Call it after the change, in its transaction.

    With `created_here` False the customer brought `agent_id`: one that we made before has to go, and where there is
    none, nothing is to be done. With another provider than MANAGED has, `created_here` must be False.
    """
    if created_here and provider not in MANAGED:
        raise ValueError(f"no agents are made at {provider}")
    old = _locked(connection, account_id, template_id)
    brought = not created_here
    if old is not None and old.created_here and agent_id is not None and agent_id == old.agent_id:
        brought = False  # its own id, sent back to us
    values: dict[str, Any] = {"provider": provider, "created_here": not brought, "code": None}
    if brought:
        values |= {"agent_id": agent_id, "leftover_id": _own(old)}
    elif old is not None and not old.created_here:
        values |= {"agent_id": old.leftover_id, "leftover_id": None}
    is_done = brought and values["leftover_id"] is None and (old is None or old.attempts == 0)
    values |= {"status": "synced" if is_done else "pending", **_due_now()}
    key = {"account_id": account_id, "template_id": template_id}
    if old is None:
        made = insert(voice_agents).values(**key, **values, wanted=1, synced=1 if is_done else 0, attempts=0)
        return _row(connection.execute(made.returning(*voice_agents.c)).mappings().one())
    values |= {"wanted": old.wanted + 1, "synced": old.wanted + 1 if is_done else old.synced}
    values["attempts"] = min(old.attempts, 1)  # a change is tried at once, and what an earlier try left is remembered
    return _updated(connection, _this(account_id, template_id), values)


def remove(connection: Connection, *, account_id: str, template_id: int) -> VoiceAgent | None:
    """The template was deleted: what we made for it is due to be removed. None if it never had an agent."""
    old = _locked(connection, account_id, template_id)
    if old is None:
        return None
    status: AgentStatus = "removed" if old.is_clean and old.busy_until is None else "removing"
    values = {"status": status, "code": None, "attempts": min(old.attempts, 1), "wanted": old.wanted + 1}
    return _updated(connection, _this(account_id, template_id), values | _due_now())


def get(connection: Connection, *, account_id: str, template_id: int) -> VoiceAgent | None:
    """The agent of a template, if it was ever wanted."""
    found = select(voice_agents).where(_this(account_id, template_id))
    row = connection.execute(found).mappings().one_or_none()
    return None if row is None else _row(row)


def of_account(connection: Connection, *, account_id: str) -> dict[int, VoiceAgent]:
    """The agents of an account by template."""
    found = select(voice_agents).where(voice_agents.c.account_id == account_id)
    return {row["template_id"]: _row(row) for row in connection.execute(found).mappings()}


def is_of_another(connection: Connection, *, account_id: str, provider: str, agent_id: str) -> bool:
    """Whether we made this agent for another account, which alone may talk to it."""
    known = (voice_agents.c.agent_id == agent_id) | (voice_agents.c.leftover_id == agent_id)
    theirs = (voice_agents.c.account_id != account_id, voice_agents.c.provider == provider, known)
    made = voice_agents.c.created_here | (voice_agents.c.leftover_id == agent_id)
    return connection.execute(select(literal(1)).where(*theirs, made).limit(1)).first() is not None


def is_made_for(connection: Connection, *, account_id: str, provider: str, agent_id: str) -> bool:
    """Whether we made this agent for this account, and it still has it."""
    mine = (voice_agents.c.account_id == account_id, voice_agents.c.provider == provider)
    made = (voice_agents.c.agent_id == agent_id) & voice_agents.c.created_here
    return connection.execute(select(literal(1)).where(*mine, made).limit(1)).first() is not None


def take(connection: Connection, *, account_id: str, template_id: int) -> VoiceAgent | None:
    """Take one that has something open, due or not; None if it has not, or another process is at it."""
    free = select(voice_agents.c.template_id).where(_this(account_id, template_id), *_takeable()).with_for_update()
    if connection.execute(free).one_or_none() is None:
        return None
    return _updated(connection, _this(account_id, template_id), _taken())


def due(connection: Connection, limit: int) -> list[VoiceAgent]:
    """Take those whose time has come, the longest overdue first; what others are taking is skipped."""
    key = (voice_agents.c.account_id, voice_agents.c.template_id)
    found = (
        select(*key)
        .where(*_takeable(), voice_agents.c.next_attempt_at <= func.now())
        .order_by(voice_agents.c.next_attempt_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(found).all()
    return [_updated(connection, _this(*row), _taken()) for row in rows]


def synced(connection: Connection, taken: VoiceAgent, *, agent_id: str) -> VoiceAgent | None:
    """The provider has what `taken` wanted, as `agent_id`; the template's events find it from now on.

    None if the lease was lost: then the row says what others have made of it. Mirror the account afterwards.
    """
    accounts.changed(connection, taken.account_id)  # before the row, as those who change templates do
    now = _held(connection, taken)
    if now is None:
        return None
    if now.created_here:
        leftover_id = None if now.leftover_id in (taken.leftover_id, agent_id) else now.leftover_id
        values: dict[str, Any] = {"agent_id": agent_id, "leftover_id": leftover_id}
    else:
        values = {"leftover_id": agent_id}  # the customer brought another one meanwhile
    if now.status != "removing":
        is_done = now.wanted == taken.wanted and values["leftover_id"] is None
        values |= {"status": "synced" if is_done else "pending", "synced": taken.wanted}
        if now.created_here:
            _bind(connection, taken, agent_id)
    values |= {"attempts": 0, "code": None, "busy_until": None, **_due_now()}
    return _updated(connection, _this(taken.account_id, taken.template_id), values)


def strand(connection: Connection, taken: VoiceAgent, *, agent_id: str) -> VoiceAgent | None:
    """An agent was made, and the lease was lost meanwhile: it has to go, unless others have adopted it.

    None if they have. An older leftover is forgotten: it still has the marker, and is found when all is removed.
    """
    now = _locked(connection, taken.account_id, taken.template_id)
    if now is None or agent_id in (now.agent_id, now.leftover_id):
        return None
    status = "removing" if now.status in ("removing", "removed") else "pending"
    values = {"leftover_id": agent_id, "status": status, **_due_now()}
    return _updated(connection, _this(taken.account_id, taken.template_id), values)


def cleared(connection: Connection, taken: VoiceAgent, *, is_gone: bool) -> VoiceAgent | None:
    """Nothing of ours is at the provider any more: the template is gone, or has an agent that the customer brought."""
    now = _held(connection, taken)
    if now is None:
        return None
    values: dict[str, Any] = {"attempts": 0, "code": None, "busy_until": None, **_due_now()}
    values |= {"leftover_id": None, "synced": taken.wanted}
    if taken.created_here and now.agent_id == taken.agent_id:
        values["agent_id"] = None
    if now.wanted == taken.wanted:
        values["status"] = "removed" if is_gone else "synced"
    return _updated(connection, _this(taken.account_id, taken.template_id), values)


def postponed(connection: Connection, taken: VoiceAgent, *, code: str, wait: timedelta) -> VoiceAgent | None:
    """The provider could not be reached, or a removal was refused: try again after `wait`."""
    return _ended(connection, taken, code=code, wait=wait, status=None)


def failed(connection: Connection, taken: VoiceAgent, *, code: str) -> VoiceAgent | None:
    """The provider refused it; it is tried again when the template changes, or in an hour."""
    return _ended(connection, taken, code=code, wait=REFUSED_AGAIN, status="failed")


def counts(connection: Connection) -> dict[str, int]:
    """How many are pending, failed and removing."""
    found = select(voice_agents.c.status, func.count()).where(voice_agents.c.status.in_(_OPEN))
    rows = connection.execute(found.group_by(voice_agents.c.status)).all()
    return {**dict.fromkeys(_OPEN, 0), **{row[0]: row[1] for row in rows}}


def _ended(
    connection: Connection, taken: VoiceAgent, *, code: str, wait: timedelta, status: AgentStatus | None
) -> VoiceAgent | None:
    now = _held(connection, taken)
    if now is None:
        return None
    values: dict[str, Any] = {"busy_until": None, "updated_at": func.now()}
    if now.wanted == taken.wanted:  # else it was changed meanwhile, and is due already
        values |= {"code": code, "next_attempt_at": _after(wait), "status": status or taken.status}
    return _updated(connection, _this(taken.account_id, taken.template_id), values)


def _own(old: VoiceAgent | None) -> str | None:
    if old is None:
        return None
    return old.agent_id if old.created_here else old.leftover_id


def _bind(connection: Connection, taken: VoiceAgent, agent_id: str) -> None:
    this = (templates.c.account_id == taken.account_id) & (templates.c.id == taken.template_id)
    connection.execute(templates.update().where(this, templates.c.deleted_at.is_(None)).values(agent_id=agent_id))


def _this(account_id: str, template_id: int) -> ColumnElement[bool]:
    return (voice_agents.c.account_id == account_id) & (voice_agents.c.template_id == template_id)


def _takeable() -> tuple[ColumnElement[bool], ...]:
    is_free = voice_agents.c.busy_until.is_(None) | (voice_agents.c.busy_until <= func.now())
    return voice_agents.c.status.in_(_OPEN), is_free


def _taken() -> dict[str, Any]:
    # Of the clock, not of the transaction's beginning: two leases in a row must differ.
    until = func.clock_timestamp() + literal(LEASE, INTERVAL)
    return {"attempts": voice_agents.c.attempts + 1, "busy_until": until}


def _due_now() -> dict[str, Any]:
    return {"next_attempt_at": func.now(), "updated_at": func.now()}


def _after(wait: timedelta) -> ColumnElement[datetime]:
    return func.now() + literal(wait, INTERVAL)


def _locked(connection: Connection, account_id: str, template_id: int) -> VoiceAgent | None:
    found = select(voice_agents).where(_this(account_id, template_id)).with_for_update()
    row = connection.execute(found).mappings().one_or_none()
    return None if row is None else _row(row)


def _held(connection: Connection, taken: VoiceAgent) -> VoiceAgent | None:
    now = _locked(connection, taken.account_id, taken.template_id)
    return now if now is not None and now.busy_until == taken.busy_until else None


def _updated(connection: Connection, this: ColumnElement[bool], values: dict[str, Any]) -> VoiceAgent:
    changed: Update = voice_agents.update().where(this).values(**values)
    return _row(connection.execute(changed.returning(*voice_agents.c)).mappings().one())


def _row(row: Any) -> VoiceAgent:
    return VoiceAgent(**row)
