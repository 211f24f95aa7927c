"""The envelope around a provider's payload, for the endpoints of templates.

    {"event":"complete","sessionId":1,"templateId":1,"templateName":"...","timestamp":"...","data":<payload>}

The payload is spliced in byte for byte: it is never parsed and written again.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Literal

import msgspec

from relay.calls import Facts
from relay.content import Content


def enveloped(facts: Facts, payload: Content) -> Content:
    """The body for a template's endpoint: the same bytes on every attempt, for the facts were frozen at acceptance."""
    return envelope(
        payload,
        event=facts.call.event_class,
        session_id=facts.session_id,
        template_id=facts.template_id,
        template_name=facts.template_name,
        accepted_at_ms=facts.accepted_at_ms,
    )


def envelope(
    payload: Content,
    *,
    event: Literal["event", "context", "complete"],
    session_id: int,
    template_id: int | None,
    template_name: str | None,
    accepted_at_ms: int,
) -> Content:
    """Put a payload, which must be JSON in UTF-8, into CanaryLLM's envelope. `accepted_at_ms` is Unix time."""
    head = (
        b'{"event":"%b","sessionId":%d,%b,"timestamp":"%b","data":'
        % (event.encode(), session_id, _template_members(template_id, template_name), iso_utc(accepted_at_ms).encode())
    )  # fmt: skip
    return Content(b"".join((head, payload.reveal(), b"}")))


def iso_utc(moment_ms: int) -> str:
    """Unix milliseconds as ISO 8601 in UTC with milliseconds: `2026-02-11T12:05:00.000Z`."""
    seconds, milliseconds = divmod(moment_ms, 1000)
    return f"{_whole_second(seconds)}.{milliseconds:03}Z"


@lru_cache(maxsize=4096)
def _whole_second(seconds: int) -> str:
    moment = time.gmtime(seconds)
    return (
        f"{moment.tm_year:04}-{moment.tm_mon:02}-{moment.tm_mday:02}"
        f"T{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02}"
    )


@lru_cache(maxsize=4096)
def _template_members(template_id: int | None, template_name: str | None) -> bytes:
    return b'"templateId":%b,"templateName":%b' % (msgspec.json.encode(template_id), msgspec.json.encode(template_name))
