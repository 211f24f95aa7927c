"""Operations: each route of the API as a value, from which it is both served and described."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel

from relay.api.core.access import Access, Caller
from relay.api.core.families import Family
from relay.api.core.services import Services

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

    @property
    def account_id(self) -> str:
        """The caller's account."""
        return self.caller.account_id


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose status or headers are not the operation's usual ones."""

    payload: Any
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route. `answers` are the models of its successes by status, None for an empty body.

    `errors` are the statuses that it may answer besides those that every operation of its kind may.
    `is_wrapped` False keeps an answer out of its family's envelope.
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

    @property
    def status(self) -> int:
        """The usual success."""
        return int(next(iter(self.answers)))


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
                )
            )
            return handler

        return declared
