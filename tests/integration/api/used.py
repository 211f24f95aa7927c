"""Calls that were made and charged, as billing charges them, for what is shown of usage."""

from __future__ import annotations

import itertools
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.ledger import charge
from relay.calls import TRUST_SOURCE, CallEvent, Ending, Facts, derived_session_id
from relay.sealing import KeyRing
from relay.store import rate_cards, sessions, templates
from relay.store.database import Database

_numbers = itertools.count(1)
_END_KINDS = {"retell": "call_ended", "elevenlabs": "post_call_transcription", "agora": "agent_left"}


def priced(database: Database, account_id: str, per_minute: str = "0.10", **options: Any) -> None:
    """A rate card for an account."""
    with database.begin() as connection:
        rate_cards.add(connection, account_id, per_minute=Decimal(per_minute), **options)


def a_template(database: Database, account_id: str, **config: Any) -> int:
    """A template of an account; its id."""
    with database.begin() as connection:
        made = templates.create(
            connection,
            KeyRing("a passphrase for tests only, long enough to be taken"),
            account_id=account_id,
            name="T",
            type="conversation",
            config=config,
        )
        return made.template.id


def called(
    database: Database,
    account_id: str,
    at: datetime,
    *,
    seconds: str | None = "60",
    provider: str = "retell",
    tag: str | None = None,
    template_id: int | None = None,
    livemode: bool = True,
    own_key: bool = False,
    status: str = "completed",
    code: str | None = None,
) -> int:
    """A call that began then and has ended; its session's id."""
    conversation_id = f"conv_{next(_numbers)}"
    started_ms = int(at.timestamp() * 1000)
    with database.begin() as connection:
        session_id = derived_session_id(account_id, provider, conversation_id)
        if tag or template_id or own_key or not livemode:
            session_id = sessions.create(
                connection,
                account_id=account_id,
                provider=provider,
                tag=tag,
                template_id=template_id,
                livemode=livemode,
                own_key=own_key,
            ).id
        event = CallEvent(
            provider=provider,
            kind=_END_KINDS[provider],
            event_class="event",
            conversation_id=conversation_id,
            dedupe=(conversation_id,),
            livemode=livemode,
            ending=Ending(status=status, duration_seconds=seconds, started_at_ms=started_ms, code=code),  # type: ignore[arg-type]
        )
        facts = Facts(
            event_id="evt_1",
            account_id=account_id,
            call=event,
            session_id=session_id,
            accepted_at_ms=started_ms + 60_000,
            trust=TRUST_SOURCE,
        )
        charge(connection, [facts])
    return session_id
