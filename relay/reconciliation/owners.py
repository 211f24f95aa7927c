"""Whose a provider's call is. With the operator's key every call of its workspace opens, also those of nobody here.

A call is given to whom its agent was made for or granted to, or whom our label names; in a workspace of an account's
own, to that account, if calls of its agent are reported to us. Without such a proof it is only charged, and only where
one account alone has told us of it: its content might be another's. What is nobody's is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from relay.providers import agora
from relay.providers.records import CallRecord
from relay.reconciliation.listing import Readable, began_at
from relay.store import reconciling
from relay.store.reconciling import Holder, Known

# A call may begin in the same second in which its agent was made.
_SLACK: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Owned:
    """A call, whose it is, and its session if there is one. `is_proved` False: by our own records alone."""

    record: CallRecord
    account_id: str
    is_proved: bool
    known: Known | None


def owned(connection: Connection, source: Readable, records: Sequence[CallRecord]) -> list[Owned]:
    """Those of these calls that are somebody's here."""
    provider = source.provider
    conversation_ids = {one.call.conversation_id for one in records}
    agent_ids = {one.call.agent_id for one in records if one.call.agent_id is not None}
    known = reconciling.by_conversations(
        connection,
        provider=provider,
        conversation_ids=conversation_ids,
        account_id=source.account_id if source.is_own else None,
    )
    if source.is_own:
        since, held = reconciling.reported(
            connection, account_id=source.account_id, provider=provider, agent_ids=agent_ids
        )
        every = [] if since is None else [Holder(source.account_id, since)]
        return [
            Owned(one, source.account_id, True, sessions[0] if sessions else None)
            for one in records
            if (sessions := known.get(one.call.conversation_id, []))
            or _holder(one, [*every, *held.get(one.call.agent_id or "", [])])
        ]
    holders = reconciling.holders(connection, provider=provider, agent_ids=agent_ids)
    labelled = _existing(connection, {one.call.account_hint for one in records if one.call.account_hint})
    found = (_of_operator(one, known.get(one.call.conversation_id, ()), holders, labelled) for one in records)
    return [one for one in found if one is not None]


def _of_operator(
    record: CallRecord, known: Sequence[Known], holders: Mapping[str, Sequence[Holder]], labelled: Collection[str]
) -> Owned | None:
    label = record.call.account_hint
    account_id = label if label in labelled else _holder(record, holders.get(record.call.agent_id or "", ()))
    if account_id is not None:
        return Owned(record, account_id, True, next((one for one in known if one.account_id == account_id), None))
    if len(known) == 1:
        return Owned(record, known[0].account_id, False, known[0])
    return None


def _holder(record: CallRecord, holders: Sequence[Holder]) -> str | None:
    """The one account whose the agent was when the call began: what others did with it before is not its."""
    began = began_at(record)
    fitting = {one.account_id for one in holders if _was_held(record, one.since, began)}
    return fitting.pop() if len(fitting) == 1 else None


def _was_held(record: CallRecord, since: datetime, began: datetime | None) -> bool:
    return record.call.provider == agora.NAME or (began is not None and began >= since - _SLACK)


def _existing(connection: Connection, account_ids: Collection[str]) -> frozenset[str]:
    return reconciling.existing(connection, account_ids) if account_ids else frozenset()
