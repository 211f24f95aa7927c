"""Voice agents at providers: what each template should have there, and how far that has come.

Whoever changes a template calls `want` or `remove` in the same transaction. Whoever then talks to the provider takes
the row first (`take`, `due`): the lease, `busy_until`, is also the token with which the result is told, so that one
process at a time works on a row and a late one changes nothing. `attempts` counts the tries since the last success,
the running one too: more than one means that an earlier one may have left something at the provider. What it left may
appear there only later; `asked_at` is when it was asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Update, case, func, literal, select
from sqlalchemy.dialects.postgresql import INTERVAL, insert

from relay.store import accounts, conversations
from relay.store.tables import templates, voice_agents

AgentStatus = Literal["pending", "synced", "failed", "removing", "removed"]

# A try is some ten calls, each a matter of seconds. One that outlives its lease changes nothing (see `strand`).
LEASE: Final = timedelta(minutes=5)
# What the provider refused may have been put right there (a voice bought, say), so it is tried again now and then.
REFUSED_AGAIN: Final = timedelta(hours=1)
# What the provider was asked for, and gave no answer about, has appeared by then, or never will.
SETTLED: Final = timedelta(minutes=10)
# No template can ask for a longer call than an hour, and 300 s more are granted to its end: until then one that began
# before the agent was changed may be under way, with the tools of its beginning.
_UNDER_WAY: Final = timedelta(hours=1, minutes=5)
_NOT_REFUSED: Final = {"code": None, "refused_fields": None}
_OPEN: Final[tuple[AgentStatus, ...]] = ("pending", "failed", "removing")
# Where an agent is made for a template; elsewhere agents are brought, or are made anew for each call.
MANAGED: Final = frozenset({"elevenlabs"})


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceAgent:
    """One template's agent. `code` says why the last try failed, `refused_fields` what the provider named then.

    `created_here` False: the customer brought it, and it is neither changed nor deleted. `leftover_id` is an agent of
    ours that has to go. `made_with` is by which key what is ours was made: None is the operator's, else the digest of
    one of the account's own.
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
    asked_at: datetime | None
    code: str | None
    created_at: datetime
    updated_at: datetime
    made_with: bytes | None
    refused_fields: list[str] | None

    @property
    def known_ids(self) -> tuple[str, ...]:
        """The agents that we made and know of."""
        ours = (self.leftover_id, self.agent_id if self.created_here else None)
        return tuple(agent_id for agent_id in ours if agent_id is not None)

    @property
    def is_clean(self) -> bool:
        """Whether nothing of ours can be at the provider."""
        is_quiet = self.attempts == 0 and self.asked_at is None
        return is_quiet and self.leftover_id is None and not (self.created_here and self.agent_id)


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
    values: dict[str, Any] = {"provider": provider, "created_here": not brought, **_NOT_REFUSED}
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


def want_all(connection: Connection, *, account_id: str, provider: str, but: int | None) -> int:
    """What every agent of ours names has changed: all but one template's are due now; how many.

    Those that wait for their next try find it then, and are left to wait.
    """
    is_busy = voice_agents.c.status.in_(("pending", "failed")) & (voice_agents.c.busy_until > func.now())
    changed = voice_agents.update().where(
        voice_agents.c.account_id == account_id,
        voice_agents.c.provider == provider,
        voice_agents.c.created_here,
        voice_agents.c.template_id.is_distinct_from(but),
        (voice_agents.c.status == "synced") | is_busy,
    )
    values = {"status": "pending", "wanted": voice_agents.c.wanted + 1, **_NOT_REFUSED, **_due_now()}
    return connection.execute(changed.values(values)).rowcount


def remove(connection: Connection, *, account_id: str, template_id: int) -> VoiceAgent | None:
    """The template was deleted: what we made for it is due to be removed. None if it never had an agent."""
    old = _locked(connection, account_id, template_id)
    if old is None:
        return None
    status: AgentStatus = "removed" if old.is_clean and old.busy_until is None else "removing"
    values = {"status": status, **_NOT_REFUSED, "attempts": min(old.attempts, 1), "wanted": old.wanted + 1}
    return _updated(connection, _this(account_id, template_id), values | _due_now())


def get(connection: Connection, *, account_id: str, template_id: int) -> VoiceAgent | None:
    """The agent of a template, if it was ever wanted."""
    found = select(voice_agents).where(_this(account_id, template_id))
    row = connection.execute(found).mappings().one_or_none()
    return None if row is None else _row(row)


def of_templates(connection: Connection, *, account_id: str, template_ids: Collection[int]) -> dict[int, VoiceAgent]:
    """The agents of these templates of an account, by template."""
    these = (voice_agents.c.account_id == account_id, voice_agents.c.template_id.in_(template_ids))
    found = select(voice_agents).where(*these)
    return {row["template_id"]: _row(row) for row in connection.execute(found).mappings()}


def take(connection: Connection, *, account_id: str, template_id: int) -> VoiceAgent | None:
    """Take one that has something open, due or not; None if it has not, or another process is at it."""
    free = select(voice_agents.c.template_id).where(_this(account_id, template_id), *_takeable()).with_for_update()
    if connection.execute(free).one_or_none() is None:
        return None
    return _updated(connection, _this(account_id, template_id), _taken())


def due(connection: Connection, limit: int, *, passing_over: Collection[str] = ()) -> list[VoiceAgent]:
    """Take those whose time has come, the longest overdue first; what others are taking is skipped.

    Those of the accounts in `passing_over` wait.
    """
    key = (voice_agents.c.account_id, voice_agents.c.template_id)
    found = (
        select(*key)
        .where(*_takeable(), voice_agents.c.next_attempt_at <= func.now())
        .where(voice_agents.c.account_id.not_in(passing_over))
        .order_by(voice_agents.c.next_attempt_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(found).all()
    return [_updated(connection, _this(*row), _taken()) for row in rows]


def keyed(connection: Connection, taken: VoiceAgent, *, made_with: bytes | None, forgets: bool) -> VoiceAgent | None:
    """What is made from now on is made with this key; `forgets` the agents that were made with another.

    None if the lease was lost.
    """
    if _held(connection, taken) is None:
        return None
    values: dict[str, Any] = {"made_with": made_with}
    if forgets:
        values |= {"agent_id": None, "leftover_id": None}
    return _updated(connection, _this(taken.account_id, taken.template_id), values)


def synced(connection: Connection, taken: VoiceAgent, *, agent_id: str) -> VoiceAgent | None:
    """The provider has what `taken` wanted, as `agent_id`; the template's events find it from now on.

    None if the lease was lost: then the row says what others have made of it. Mirror the account afterwards, unless the
    template stands behind a conversation: that is no part of what is mirrored.
    """
    behind = conversations.is_one(connection, account_id=taken.account_id, template_id=taken.template_id)
    # Before the row, as those who change templates do.
    (accounts.lock if behind else accounts.changed)(connection, taken.account_id)
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
            if is_done:
                _end_former_secret(connection, taken)
    values |= {"attempts": 0, **_NOT_REFUSED, "busy_until": None, **_answered(taken), **_due_now()}
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
    """Nothing of ours is at the provider any more: the template is gone, or has an agent that the customer brought.

    What an earlier try asked for may still appear. For a template that is gone it is looked for again when it has
    SETTLED; for one with an agent that was brought, which is ready at once, when that template goes.
    """
    now = _held(connection, taken)
    if now is None:
        return None
    values: dict[str, Any] = {"attempts": 0, **_NOT_REFUSED, "busy_until": None, **_due_now()}
    values |= {"leftover_id": None, "synced": taken.wanted}
    if taken.created_here and now.agent_id == taken.agent_id:
        values["agent_id"] = None
    if now.wanted == taken.wanted and is_gone and _may_appear(connection, now):
        values |= {"status": "removing", "next_attempt_at": voice_agents.c.asked_at + literal(SETTLED, INTERVAL)}
    elif now.wanted == taken.wanted:
        values["status"] = "removed" if is_gone else "synced"
    return _updated(connection, _this(taken.account_id, taken.template_id), values)


def postponed(connection: Connection, taken: VoiceAgent, *, code: str, wait: timedelta) -> VoiceAgent | None:
    """The provider could not be reached, or a removal was refused: try again after `wait`."""
    return _ended(connection, taken, code=code, wait=wait, status=None)


def failed(connection: Connection, taken: VoiceAgent, *, code: str, fields: Sequence[str] = ()) -> VoiceAgent | None:
    """The provider refused it, and named `fields`; it is tried again when the template changes, or in an hour."""
    return _ended(connection, taken, code=code, fields=fields, wait=REFUSED_AGAIN, status="failed")


def counts(connection: Connection) -> dict[str, int]:
    """How many are pending, failed and removing."""
    found = select(voice_agents.c.status, func.count()).where(voice_agents.c.status.in_(_OPEN))
    rows = connection.execute(found.group_by(voice_agents.c.status)).all()
    return {**dict.fromkeys(_OPEN, 0), **{row[0]: row[1] for row in rows}}


def _ended(
    connection: Connection,
    taken: VoiceAgent,
    *,
    code: str,
    wait: timedelta,
    status: AgentStatus | None,
    fields: Sequence[str] = (),
) -> VoiceAgent | None:
    now = _held(connection, taken)
    if now is None:
        return None
    values: dict[str, Any] = {"busy_until": None, "updated_at": func.now()}
    if now.wanted == taken.wanted:  # else it was changed meanwhile, and is due already
        values |= {
            "code": code,
            "refused_fields": list(fields) or None,
            "next_attempt_at": _after(wait),
            "status": status or taken.status,
        }
    if status == "failed":
        values |= _answered(taken)
    return _updated(connection, _this(taken.account_id, taken.template_id), values)


def _answered(taken: VoiceAgent) -> dict[str, Any]:
    """The provider has said of each thing that it was asked for what became of it, if the first try got so far."""
    return {"asked_at": None} if taken.attempts == 1 else {}


def _may_appear(connection: Connection, now: VoiceAgent) -> bool:
    """Whether something that was asked for may still come to be at the provider."""
    if now.asked_at is None:
        return False
    return connection.execute(select(func.now() < now.asked_at + SETTLED)).scalar_one()


def _own(old: VoiceAgent | None) -> str | None:
    if old is None:
        return None
    return old.agent_id if old.created_here else old.leftover_id


def _bind(connection: Connection, taken: VoiceAgent, agent_id: str) -> None:
    this = (templates.c.account_id == taken.account_id) & (templates.c.id == taken.template_id)
    connection.execute(templates.update().where(this, templates.c.deleted_at.is_(None)).values(agent_id=agent_id))


def _end_former_secret(connection: Connection, taken: VoiceAgent) -> None:
    """The agent's tools have the template's new secret: the one before it is for calls that are under way."""
    this = (templates.c.account_id == taken.account_id) & (templates.c.id == taken.template_id)
    end = _after(_UNDER_WAY)
    late = templates.update().where(this, templates.c.former_secret_until > end)
    connection.execute(late.values(former_secret_until=end))


def _this(account_id: str, template_id: int) -> ColumnElement[bool]:
    return (voice_agents.c.account_id == account_id) & (voice_agents.c.template_id == template_id)


def _takeable() -> tuple[ColumnElement[bool], ...]:
    is_free = voice_agents.c.busy_until.is_(None) | (voice_agents.c.busy_until <= func.now())
    return voice_agents.c.status.in_(_OPEN), is_free


def _taken() -> dict[str, Any]:
    # Of the clock, not of the transaction's beginning: two leases in a row must differ.
    until = func.clock_timestamp() + literal(LEASE, INTERVAL)
    makes = voice_agents.c.created_here & (voice_agents.c.status != "removing")
    asked_at = case((makes, func.now()), else_=voice_agents.c.asked_at)
    return {"attempts": voice_agents.c.attempts + 1, "busy_until": until, "asked_at": asked_at}


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
