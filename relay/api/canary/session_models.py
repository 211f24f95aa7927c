"""Sessions as CanaryLLM's clients start and read them. Times are ISO 8601 in UTC; money is a number here."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field

from relay.agents.sessions import Channel
from relay.api.agora_properties import JoinProperties
from relay.api.core.models import Input, Output, Query
from relay.api.core.objects import Metadata
from relay.api.v1.fields import ShownMoment
from relay.api.v1.pages import Cursor
from relay.store.sessions import Session
from relay.store.shown import moment

RowNumber = Annotated[int, Field(ge=1, le=9_999_999_999_999_999)]
Status = Literal["pending", "active", "completed", "failed", "abandoned"]


def _is_absent(value: Any) -> bool:
    return value is None


class AgoraChannel(Input):
    """Where Agora's agent joins: the project, and what Agora's `join` takes."""

    model_config = ConfigDict(alias_generator=None)

    appid: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,256}$")]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    properties: JoinProperties
    preset: Annotated[str, Field(max_length=2048)] | None = None
    pipeline_id: Annotated[str, Field(max_length=2048)] | None = None

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
    metadata: dict[str, Any] | None = Field(default=None, exclude_if=_is_absent)
    created_at: ShownMoment
    completed_at: ShownMoment | None = Field(default=None, exclude_if=_is_absent)

    @classmethod
    def of(cls, row: Session) -> Self:
        """A row as it is shown."""
        return cls.model_validate(_fields(row))


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
    """Which sessions. Without `limit` there are as many on a page as there can be."""

    template_id: Annotated[RowNumber | None, Field(description="Only sessions of this template.")] = None
    limit: Annotated[int, Field(ge=1, le=1000, description="At most so many.")] = 1000
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
    call_id: str | None = Field(default=None, exclude_if=_is_absent)
    access_token: str | None = Field(default=None, exclude_if=_is_absent)
    agent: JoinedAgent | None = Field(default=None, exclude_if=_is_absent)


def _fields(row: Session) -> dict[str, Any]:
    return {
        "id": row.id,
        "templateId": row.template_id,
        "status": row.status,
        "metadata": row.metadata,
        "createdAt": moment(row.created_at),
        "completedAt": moment(row.completed_at),
        "provider": row.provider,
        "conversationId": row.conversation_id,
        "textOnly": row.text_only,
        "duration": row.duration_seconds,
        "billedSeconds": row.billed_seconds,
        "cost": None if row.cost is None else float(row.cost),
        "currency": row.currency,
        "unratedReason": row.unrated_reason,
        "failureCode": row.failure_code,
    }
