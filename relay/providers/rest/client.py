"""One call to a provider's API: bounded in time, tried again where that is safe, its errors in our words.

Providers' texts may quote what was sent to them (prompts, numbers), so none is kept: what comes through is the status
and the names of our own fields. Nor do our errors carry the ones they stand for, which hold the request and its key:
they are raised outside of the handlers.
"""

from __future__ import annotations

import json as jsons
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import quote

import requests

from relay.errors import ProviderFailed, ProviderUnavailable
from relay.providers.rest.deadline import Punctual

CONNECT_SECONDS: Final = 3.05
READ_SECONDS: Final = 10.0
# A wait longer than this is left to whoever asked: somebody may be waiting for the answer.
_MAX_WAIT_SECONDS: Final = 2.0
# Before the second and the third try.
_WAITS_SECONDS: Final = (0.25, 1.0)
# No try begins later than this: a provider that hangs is not waited for three times.
_TRIES_WITHIN_SECONDS: Final = 8.0
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
# These the provider has not acted on, so that even a call that makes something may be sent again.
_UNTOUCHED: Final = frozenset({429, 503})
_MAX_REPLY_BYTES: Final = 16 * 1024 * 1024
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}|[0-9]{1,4}")
_MOST_FIELDS: Final = 5
_MAX_FIELD_CHARS: Final = 128

Params = Mapping[str, str | int]
# What is known of a call without an answer: that it never arrived, or not even that.
Silence = Literal["never sent", "unknown"]


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    retry_after: str
    body: bytes = field(repr=False)


class Rest:
    """Calls under one base URL. Redirects, and the proxies and passwords of the environment, are ignored."""

    def __init__(self, base_url: str, *, headers: Mapping[str, str]) -> None:
        self._base_url = base_url
        self._session = requests.Session()
        self._session.trust_env = False
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, Punctual())
        self._session.headers.update({"Accept": "application/json", **headers})

    def call(self, method: str, path: str, *, params: Params | None = None, json: Any = None) -> Any:
        """The decoded JSON answer, or None for an empty one. Raises as `fetch` does."""
        body = self.fetch(method, path, params=params, json=json)
        if not body:
            return None
        answer = _decoded(body)
        if answer is _NO_JSON:
            raise ProviderFailed("the provider's API answered with something that is no JSON")
        return answer

    def fetch(self, method: str, path: str, *, params: Params | None = None, json: Any = None) -> bytes:
        """The body of a 2xx answer, at most 16 MiB.

        Tried three times, POST only where the provider has not acted on it. Raises ProviderUnavailable, and
        ProviderFailed with the provider's status.
        """
        retried = _UNTOUCHED if method == "POST" else _BUSY
        began = time.monotonic()
        for wait in (*_WAITS_SECONDS, None):
            reply = self._tried(method, path, params=params, json=json)
            if isinstance(reply, _Reply) and reply.status not in retried:
                return _accepted(reply)
            if reply == "unknown" and method == "POST":
                break  # it may have been acted on
            if time.monotonic() - began > _TRIES_WITHIN_SECONDS:
                break
            if wait is not None:
                time.sleep(_asked_wait(reply, wait) if isinstance(reply, _Reply) else wait)
        raise ProviderUnavailable

    def _tried(self, method: str, path: str, *, params: Params | None, json: Any) -> _Reply | Silence:
        try:
            return self._send(method, path, params=params, json=json)
        except requests.ConnectTimeout:
            return "never sent"
        except (requests.RequestException, ValueError):
            return "unknown"

    def _send(self, method: str, path: str, *, params: Params | None, json: Any) -> _Reply:
        with self._session.request(
            method,
            self._base_url + path,
            params=params,
            json=json,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            allow_redirects=False,
            stream=True,
        ) as response:
            parts, size = [], 0
            for part in response.iter_content(65_536):
                parts.append(part)
                size += len(part)
                if size > _MAX_REPLY_BYTES:
                    raise ProviderFailed("the provider's API answered with more than 16 MiB")
            return _Reply(response.status_code, response.headers.get("Retry-After", ""), b"".join(parts))


def _accepted(reply: _Reply) -> bytes:
    """The body of a 2xx; anything else is told by its status."""
    if 200 <= reply.status < 300:
        return reply.body
    if reply.status in _BUSY:
        raise ProviderUnavailable
    if reply.status in (401, 403):
        raise ProviderFailed("the provider refused the API key", code="provider_key_refused",
                             provider_status=reply.status)  # fmt: skip
    if reply.status == 404:
        raise ProviderFailed("the provider knows nothing by this id", code="provider_not_found", provider_status=404)
    fields = tuple(dict.fromkeys(_fields(reply.body)))
    named = f": {', '.join(fields)}" if fields else ""
    text = f"the provider refused the request ({reply.status}){named}"
    raise ProviderFailed(text, provider_status=reply.status, fields=fields)


def _asked_wait(reply: _Reply, usual: float) -> float:
    asked = reply.retry_after
    return min(float(asked), _MAX_WAIT_SECONDS) if re.fullmatch(r"[0-9]{1,4}", asked) else usual


def segment(name: str) -> str:
    """An id as one part of a path, whatever it holds. Raises ProviderFailed for one that cannot be any."""
    if not name.strip("."):  # servers, and clients before them, take dots for steps up the path
        raise ProviderFailed("the provider knows nothing by this id", code="provider_not_found", provider_status=404)
    return quote(name, safe="")


_NO_JSON: Final = object()


def _decoded(body: bytes) -> Any:
    try:
        return jsons.loads(body)
    except (ValueError, RecursionError):
        return _NO_JSON


def _fields(body: bytes) -> Iterator[str]:
    """The paths in our body that `{"detail": [{"loc": [...]}]}` names, as far as they are plain names and numbers."""
    told = _decoded(body)
    detail = told.get("detail") if isinstance(told, dict) else None
    for one in detail[:_MOST_FIELDS] if isinstance(detail, list) else ():
        loc = one.get("loc") if isinstance(one, dict) else None
        parts = ["" if part is None else str(part) for part in loc] if isinstance(loc, list) else []
        path = ".".join(parts[1:] if parts[:1] == ["body"] and parts[1:] else parts)
        if parts and all(_NAME.fullmatch(part) for part in parts) and len(path) <= _MAX_FIELD_CHARS:
            yield path
