"""Web calls as Retell's clients begin and read them, in Retell's names (its official Python package 6.2.13)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

import msgspec
from pydantic import ConfigDict, Field

from relay.api.core.fields import left_out
from relay.api.core.models import Input, Output
from relay.api.core.objects import Metadata
from relay.calls import DERIVED_SESSION_BASE, MAX_FACT_CHARS
from relay.providers.rest.retell import WebCall
from relay.store.sessions import Session, SessionStatus

CallStatus = Literal["registered", "not_connected", "ongoing", "ended", "error"]
_STATUSES: Final[dict[SessionStatus, CallStatus]] = {
    "pending": "registered",
    "active": "ongoing",
    "completed": "ended",
    "failed": "error",
    "abandoned": "not_connected",
}
_Fact = Annotated[str, Field(min_length=1, max_length=MAX_FACT_CHARS)]


class NewWebCall(Input):
    """A web call with an agent of one of the account's templates.

    `metadata` is kept as the session's, and goes to Retell; everything else only goes there. `agent_override` is not
    taken: it could send the call's webhooks elsewhere.
    """

    model_config = ConfigDict(alias_generator=None)

    agent_id: _Fact
    agent_version: int | _Fact | None = None
    current_node_id: _Fact | None = None
    current_state: _Fact | None = None
    metadata: Metadata | None = None
    retell_llm_dynamic_variables: dict[str, str] | None = None

    @property
    def more(self) -> dict[str, Any]:
        """What is passed on as it is."""
        return self.model_dump(include={"agent_version", "current_node_id", "current_state"}, exclude_none=True)


class _Said(Output):
    model_config = ConfigDict(alias_generator=None)


class IceServer(_Said):
    """A STUN or TURN server for the browser."""

    urls: str | list[str]
    username: str | None = left_out()
    credential: str | None = left_out()


class OpenedWebCall(_Said):
    """What Retell's web client 3.x connects with; `expires_at` is Unix milliseconds."""

    call_id: str
    access_token: str
    transport: str | None
    ice_servers: list[IceServer]
    expires_at: int | None

    @classmethod
    def of(cls, call: WebCall) -> Self:
        """A call that was begun."""
        return cls(
            call_id=call.call_id,
            access_token=call.access_token,
            transport=call.transport,
            ice_servers=ice_servers(call),
            expires_at=call.expires_at,
        )


class ShownCall(_Said):
    """A call: what happened, never what was said. Times are Unix milliseconds, and absent where they are not known.

    `call_type` is absent for a call that was not begun here: it may have been one by telephone.
    """

    call_id: str
    agent_id: str | None
    call_status: CallStatus
    call_type: Literal["web_call"] | None = left_out()
    metadata: dict[str, Any] | None = left_out()
    start_timestamp: int | None = left_out()
    end_timestamp: int | None = left_out()
    duration_ms: int | None = left_out()


class RegisteredCall(ShownCall):
    """A call that Retell's web client 2.x joins with the token."""

    access_token: str
    agent_version: int | None = left_out()

    @classmethod
    def begun(cls, session: Session, call: WebCall) -> Self:
        """A call that was begun for a session."""
        more = {"access_token": call.access_token, "agent_version": call.agent_version}
        return cls.model_validate(call_fields(session, call_id=call.call_id) | more)


def call_fields(row: Session, *, call_id: str) -> dict[str, Any]:
    """A session as Retell shows a call."""
    return {
        "call_id": call_id,
        "agent_id": row.agent_id,
        "call_status": _STATUSES[row.status],
        "call_type": "web_call" if row.id < DERIVED_SESSION_BASE else None,
        "metadata": row.metadata,
        "start_timestamp": _unix_ms(row.started_at),
        "end_timestamp": _unix_ms(row.ended_at),
        "duration_ms": None if row.duration_seconds is None else round(row.duration_seconds * 1000),
    }


def ice_servers(call: WebCall) -> list[IceServer]:
    """The servers of a call as they are shown."""
    return [IceServer.model_validate(msgspec.to_builtins(server)) for server in call.ice_servers]


def _unix_ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)
