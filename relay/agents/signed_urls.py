"""Signed URLs of agents at ElevenLabs: each opens one conversation, which is charged by itself.

A hard limit of the account must leave room for that conversation, unless it is held back for a session already. That is
held back for one conversation: under a hard limit a session gives its next URL when the last one has expired.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection

from billing import reservations
from relay.agents.clients import Clients
from relay.directory import Mirror
from relay.errors import Conflict, NotFound, SwitchhookError
from relay.sealing import KeyRing
from relay.store import budgets, conversations, sessions, signed_urls, templates
from relay.store.database import Database
from relay.store.sessions import AWAITED, HELD, Session
from relay.store.signed_urls import LIFETIME, Lasting
from relay.store.templates import Template
from relay.store.transfers import transferred_to

SIGNED_URL_SECONDS: Final = int(LIFETIME.total_seconds())
_ENDED: Final = frozenset({"completed", "failed", "abandoned"})


class SignedUrlGiven(Conflict):
    """A signed URL of this session was given, and opens its conversation still."""

    code = "signed_url_given"

    def __init__(self, lasting: Lasting) -> None:
        until = lasting.until.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        super().__init__(
            f"a signed URL of this session was asked for, which opens its conversation until {until}, and no more is "
            "held back for it: use that one, or begin another session"
        )
        self.retry_after_seconds = max(1, math.ceil(lasting.seconds))


class SignedUrls:
    """Gives them. Raises NotFound, Conflict, BudgetExceeded, ProviderFailed and Unavailable.

    And Forbidden, where it is the operator's key that is used, for agents that the account may not use.
    """

    def __init__(self, database: Database, ring: KeyRing, mirror: Mirror, clients: Clients) -> None:
        self._database = database
        self._ring = ring
        self._mirror = mirror
        self._clients = clients

    def give(self, *, account_id: str, agent_id: str, session_id: int | None = None) -> str:
        """A URL that opens a conversation with an agent of one of the account's templates.

        The ingress knows the agent for as long as that conversation may last. Raises NotFound for every other agent,
        and for a session that is not this account's and this agent's; Conflict `session_over` for one that has ended,
        SignedUrlGiven for one under a hard limit whose last URL has not expired.
        """
        with self._database.begin() as connection:
            session = None
            if session_id is not None:
                session = sessions.get(connection, account_id=account_id, session_id=session_id)
            known = templates.id_of_agent(connection, account_id=account_id, provider="elevenlabs", agent_id=agent_id)
            if known is None:
                raise NotFound("this account has no agent by this id")
            template = templates.get(connection, self._ring, account_id=account_id, template_id=known, with_hidden=True)
            behind = conversations.awaited(connection, agent_id=agent_id)
            if session is not None:
                _check(session, template, agent_id)
            held = session if session is not None and _is_held(session) else None
            if held is None:
                reservations.check(connection, account_id=account_id, provider=template.provider, template_id=known)
            is_limited = held is not None and _is_limited(connection, held)
        client = self._clients.elevenlabs(account_id, about=agents_of(template, agent_id))
        for one in behind:
            self._mirror.conversations.remember(one.account_id, one.template, lifetime=AWAITED)
        if held is None:
            return client.signed_url(agent_id)
        with self._one_at_a_time(held) if is_limited else nullcontext():
            url = client.signed_url(agent_id)
        # It lasts from when it was made; if that cannot be written, nobody sees it.
        with self._database.begin() as connection:
            signed_urls.given(connection, account_id=account_id, session_id=held.id)
        return url

    @contextmanager
    def _one_at_a_time(self, session: Session) -> Iterator[None]:
        """Within, a URL of a session is made, and by nobody else. Raises SignedUrlGiven.

        Whoever dies here leaves the session without another URL for as long as one would last.
        """
        account_id, session_id = session.account_id, session.id
        with self._database.begin() as connection:
            taken = signed_urls.take(connection, account_id=account_id, session_id=session_id)
        if isinstance(taken, Lasting):
            raise SignedUrlGiven(taken)
        try:
            yield
        except Exception:
            with suppress(SwitchhookError), self._database.begin() as connection:
                signed_urls.give_back(connection, account_id=account_id, session_id=session_id, taken=taken)
            raise


def agents_of(template: Template, agent_id: str) -> tuple[str, ...]:
    """Whom somebody who calls this agent may come to speak with."""
    return (agent_id, *transferred_to(template.config))


def _check(session: Session, template: Template, agent_id: str) -> None:
    """Whether this agent's conversation can be this session: what is told of it goes where the session's template says.

    Raises NotFound, Conflict.
    """
    if session.template_id != template.id and session.agent_id != agent_id:
        raise NotFound("this account has no session by this id with this agent")
    if session.status in _ENDED:
        raise Conflict("this session is over; begin another session", code="session_over")


def _is_held(session: Session) -> bool:
    """Whether what its conversation may cost is held back with this session, and counted as such.

    One session is one conversation: what it holds opens none once its own has begun, and none that could begin when
    nothing is held any more.
    """
    is_awaited = session.status == "pending" and datetime.now(UTC) - session.created_at < HELD - LIFETIME
    return session.reserved is not None and is_awaited


def _is_limited(connection: Connection, session: Session) -> bool:
    """Whether a hard limit applies to it by now."""
    return bool(budgets.limits(connection, account_id=session.account_id, tag=session.tag, locked=False))
