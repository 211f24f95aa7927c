"""Operations: each route of the API as a value, from which it is both served and described."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel
from werkzeug.datastructures import MIMEAccept

from relay.api.core.access import Access, Caller
from relay.api.core.families import OURS, Family
from relay.api.core.services import Services
from relay.problems import JSON
from relay.provisioning import Provisioning

BodyT = TypeVar("BodyT")
QueryT = TypeVar("QueryT")
Handler = TypeVar("Handler", bound=Callable[..., Any])

MAX_BODY_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[BodyT, QueryT]):
    """One request as its handler sees it: who calls, what for, and what there is to work with."""

    caller: Caller
    services: Services
    body: BodyT
    query: QueryT
    accept: MIMEAccept = field(default_factory=MIMEAccept)

    @property
    def account_id(self) -> str:
        """The caller's account."""
        return self.caller.account_id

    @property
    def provisioning(self) -> Provisioning:
        """What makes changes, in the caller's name."""
        return self.services.provisioning.acting_as(self.caller.actor)

    def prefers(self, raw: Raw) -> bool:
        """Whether its `Accept` asks for this rather than for JSON, which is what everybody else gets."""
        bare = raw.content_type.partition(";")[0]
        return self.accept.best_match((JSON, bare)) == bare


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose status or headers are not the operation's usual ones."""

    payload: Any
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Raw:
    """In place of an answer's model: its payload is bytes of this type, and is sent as it is."""

    content_type: str


@dataclass(frozen=True, slots=True)
class Forms:
    """In place of an answer's model: JSON of this model, or bytes of another type, whichever the caller prefers.

    `more` are further types; an answer of one of these has it in its headers.
    """

    model: Any
    raw: Raw
    more: tuple[Raw, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route. `answers` are the models of its successes by status, None for an empty body.

    `errors` are the statuses that it may answer besides those that every operation of its kind may.
    `is_wrapped` False keeps an answer out of its family's envelope. `is_slow`: it may wait for servers of others, a
    provider's API or the name server of a customer's URL. `takes_websockets`: requests to become a WebSocket are
    answered by it, too, and not as a mistake.
    """

    method: str
    path: str
    family: Family
    access: Access
    handler: Callable[..., Any]
    name: str
    summary: str
    description: str
    tag: str
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    answers: Mapping[int, Any]
    errors: frozenset[int]
    is_wrapped: bool
    is_slow: bool = False
    takes_websockets: bool = False

    @property
    def status(self) -> int:
        """The usual success."""
        return int(next(iter(self.answers)))

    @property
    def reads_query(self) -> bool:
        """It refuses names in its query that it does not know. Where a key is sent on our own paths, all do."""
        return self.query is not None or (self.family is OURS and self.access is not Access.PUBLIC)

    @property
    def is_repeatable(self) -> bool:
        """It takes an `Idempotency-Key`."""
        return self.method == "POST" and self.access is not Access.PUBLIC


class Group:
    """Operations that belong together: one family, one heading in the description."""

    def __init__(self, family: Family, *, tag: str) -> None:
        self.family = family
        self.tag = tag
        self.operations: list[Operation] = []

    def operation(
        self,
        method: str,
        path: str,
        *,
        access: Access,
        answers: Mapping[int, Any],
        body: type[BaseModel] | None = None,
        query: type[BaseModel] | None = None,
        errors: tuple[int, ...] = (),
        is_wrapped: bool = True,
        is_slow: bool = False,
        takes_websockets: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Declare a handler `(call, **path parameters)`; its docstring's first line is the summary."""

        def declared(handler: Handler) -> Handler:
            summary, _, description = (handler.__doc__ or "").partition("\n\n")
            self.operations.append(
                Operation(
                    method=method,
                    path=path,
                    family=self.family,
                    access=access,
                    handler=handler,
                    name=handler.__name__,
                    summary=summary.strip().rstrip("."),
                    description=" ".join(description.split()),
                    tag=self.tag,
                    body=body,
                    query=query,
                    answers=answers,
                    errors=frozenset(errors),
                    is_wrapped=is_wrapped,
                    is_slow=is_slow,
                    takes_websockets=takes_websockets,
                )
            )
            return handler

        return declared
