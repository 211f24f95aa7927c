"""What goes over a transport: a POST, and what came of it.

Structs of msgspec, because each delivery makes several: a frozen dataclass takes ten times as long to make.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from relay.content import Content
from relay.delivery.retry import AttemptResult, Failure


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One POST. `headers` are whole lines, ready to send; `deadline_ms` covers everything from DNS to the last byte.

    `keep_reply`: the answer's body is wanted. Otherwise no byte of it is kept.
    """

    url: str
    headers: Sequence[bytes]
    body: Content
    deadline_ms: int
    keep_reply: bool = False


class Reply(msgspec.Struct, frozen=True):
    """A whole answer that was asked for. `is_whole` is False when its body went past BODY_CAP_BYTES and was cut."""

    status: int
    content_type: str | None
    body: Content
    is_whole: bool


class Finished(msgspec.Struct, frozen=True):
    """One POST that ended. `ticket` is what its caller gave to `start`; `reply` is None unless it was asked for."""

    ticket: Any
    result: AttemptResult
    duration_ms: int
    response_bytes: int
    reply: Reply | None = None


class Begun(msgspec.Struct, frozen=True):
    """A request that has begun (`began` by the monotonic clock), and may still wait for its name."""

    request: Request
    ticket: Any
    began: float

    @property
    def ends_at(self) -> float:
        """When its deadline is."""
        return self.began + self.request.deadline_ms / 1000

    @property
    def spent_ms(self) -> int:
        """How long ago it began."""
        return int((time.monotonic() - self.began) * 1000)

    def failed(self, failure: Failure) -> Finished:
        """Its end without a connection: no address for its name, or nothing that could be sent."""
        return Finished(self.ticket, AttemptResult(failure=failure), self.spent_ms, 0)
