"""Sessions as CanaryLLM's clients start and read them. Times are ISO 8601 in UTC; money is a number here."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from relay.agents.sessions import Channel
from relay.api.agora.properties import JoinProperties, checked_complete
from relay.api.core.fields import RowNumber, ShownMoment, left_out
from relay.api.core.models import Input, Output, Query
from relay.api.core.objects import Metadata
from relay.api.core.pages import Cursor
from relay.api.retell_models import IceServer
from relay.store import shown
from relay.store.sessions import Session

Status = Literal["pending", "active", "completed", "failed", "abandoned"]


class AgoraChannel(Input):
    """Where Agora's agent joins: the project, and what Agora's `join` takes.

    Where `properties.llm` has no `system_messages` or `greeting_message`, the template's `systemPrompt` and
    `firstMessage` are sent.
    """

    model_config = ConfigDict(alias_generator=None)

    appid: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,256}$")]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    properties: JoinProperties
    preset: Annotated[str, Field(max_length=2048)] | None = None
    pipeline_id: Annotated[str, Field(max_length=2048)] | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        checked_complete(self.properties, is_prepared=bool(self.preset or self.pipeline_id))
        return self

    def to_channel(self) -> Channel:
        """The same as it is handed on: what was not written is left to Agora."""
        wish = self.model_dump(exclude_unset=True)
        return Channel(appid=wish.pop("appid"), name=wish.pop("name"), properties=wish.pop("properties"), more=wish)


class NewSession(Input):
    """A session to be started. `metadata` is kept as it is; `agora` is for templates of Agora."""

    template_id: RowNumber
    metadata: Metadata | None = None
    text_only: bool = False
    agora: AgoraChannel | None = None


class SessionShown(Output):
    """A session: what happened, never what was said."""

    id: int
    template_id: int | None
    status: Status
    metadata: dict[str, Any] | None = left_out()
    created_at: ShownMoment
    completed_at: ShownMoment | None = left_out()

    @classmethod
    def of(cls, row: Session) -> Self:
        """A row as it is shown."""
        return cls.model_validate(shown.canary_session(row))


class SessionDetail(SessionShown):
    """A session with its bill: `duration` and `billedSeconds` in seconds, `cost` in `currency`.

    A null cost of a completed session is one that could not be charged, for `unratedReason`.
    """

    provider: str
    conversation_id: str | None
    text_only: bool
    duration: float | None
    billed_seconds: int | None
    cost: float | None
    currency: str | None
    unrated_reason: str | None
    failure_code: str | None


class SessionRead(Output):
    """One session."""

    session: SessionDetail


class SessionList(Output):
    """Sessions, the newest first; `nextCursor` is null on the last page."""

    success: Literal[True] = True
    data: list[SessionDetail]
    next_cursor: str | None


class SessionsQuery(Query):
    """Which sessions."""

    template_id: Annotated[RowNumber | None, Field(description="Only sessions of this template.")] = None
    limit: Annotated[int, Field(ge=1, le=1000, description="At most so many.")] = 100
    cursor: Cursor | None = None


class JoinedAgent(Output):
    """Agora's agent."""

    agent_id: str
    status: str


class SessionStarted(Output):
    """A session that can be joined: with `signedUrl` for `expiresIn` seconds, or as its provider has it.

    The client passes `dynamicVariables` on, so that the provider's webhooks name this session.
    """

    session: SessionShown
    signed_url: str | None
    expires_in: int
    dynamic_variables: dict[str, str]
    text_only: bool
    call_id: str | None = left_out()
    access_token: str | None = left_out()
    transport: str | None = left_out()
    ice_servers: list[IceServer] | None = left_out()
    agent: JoinedAgent | None = left_out()
