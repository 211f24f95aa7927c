"""Reading a request's body ourselves: up to a limit and one byte more.

Werkzeug's MAX_CONTENT_LENGTH silently truncates chunked bodies and answers 200; here a body is either whole or
refused.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

from relay.errors import BadRequest, BodyTooLarge, EncodingRefused

AUDIO_LIMIT_BYTES: Final = 64 * 1024 * 1024
_PIECE_BYTES: Final = 1024 * 1024
# ElevenLabs writes the type first; a body that hides it past this is held to the ordinary limit.
_AUDIO: Final = re.compile(rb'^\s*\{\s*"type"\s*:\s*"post_call_audio"')


class Input(Protocol):
    """A WSGI input stream."""

    def read(self, size: int = ..., /) -> bytes:
        """At most `size` bytes; empty at the end."""
        ...


def read_body(environ: dict[str, Any], *, limit_bytes: int, audio: bool = False) -> bytes:
    """The whole body. `audio` admits ElevenLabs' recordings up to 64 MB.

    Raises BodyTooLarge, EncodingRefused, or BadRequest for a body that ended early.
    """
    if environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() not in ("", "identity"):
        raise EncodingRefused
    declared = _declared_length(environ)
    if declared is not None and declared > (max(limit_bytes, AUDIO_LIMIT_BYTES) if audio else limit_bytes):
        raise BodyTooLarge
    stream: Input = environ["wsgi.input"]
    body = _read(stream, limit_bytes + 1, declared)
    if len(body) > limit_bytes and audio and _AUDIO.match(body[:256]):
        limit_bytes = max(limit_bytes, AUDIO_LIMIT_BYTES)
        rest = None if declared is None else declared - len(body)
        body += _read(stream, limit_bytes + 1 - len(body), rest)
    if len(body) > limit_bytes:
        raise BodyTooLarge
    if declared is not None and len(body) != declared:
        raise BadRequest("the body ended before its Content-Length", code="body_truncated")
    return body


def _declared_length(environ: dict[str, Any]) -> int | None:
    if environ.get("HTTP_TRANSFER_ENCODING"):
        return None
    raw = environ.get("CONTENT_LENGTH") or ""
    if not raw:
        return None
    if not (raw.isascii() and raw.isdigit() and len(raw) < 19):
        raise BadRequest("Content-Length is not a number", code="content_length_invalid")
    return int(raw)


def _read(stream: Input, most: int, declared: int | None) -> bytes:
    """Up to `most` bytes, and never past the declared end: some servers wait there for what never comes."""
    most = most if declared is None else min(most, declared)
    first = stream.read(min(most, _PIECE_BYTES))
    if len(first) == most or not first:
        return first
    pieces, size = [first], len(first)
    while size < most:
        piece = stream.read(min(most - size, _PIECE_BYTES))
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)
