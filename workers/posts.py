"""One POST to a billing system, over connections that are kept: its status and what it said, or why there is none.

Addresses and keys are the operator's settings. Redirects, and the proxies and passwords of the environment, are
ignored; no text of the other side leaves what is returned, nor does any error.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import requests
from urllib3.exceptions import NameResolutionError, NewConnectionError

from relay.delivery import USER_AGENT
from relay.delivery.retry import AttemptResult, Failure, parse_retry_after
from relay.providers.rest.client import CONNECT_SECONDS, READ_SECONDS
from relay.providers.rest.deadline import Punctual

# An answer names what is wrong with up to a hundred events; more than this is not read.
_MAX_ANSWER_BYTES: Final = 1024 * 1024
_PART_BYTES: Final = 65_536
# The first that fits: some of these are kinds of one another.
_FAILURES: Final = (
    (requests.ConnectTimeout, Failure.CONNECT_TIMED_OUT),
    (requests.Timeout, Failure.TIMED_OUT),
    (requests.exceptions.SSLError, Failure.TLS_FAILED),
    (requests.exceptions.InvalidHeader, Failure.UNSENDABLE),
    (UnicodeError, Failure.UNSENDABLE),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `body` has at most 1 MiB, and nothing if there was more or no answer."""

    result: AttemptResult
    body: bytes = field(default=b"", repr=False)

    @property
    def status(self) -> int | None:
        """Of a whole answer."""
        return self.result.status if self.result.failure is None else None

    @property
    def may_be_taken(self) -> bool:
        """Whether the other side may have acted on it, although it did not say so."""
        if self.result.failure is not None:
            return self.result.failure in (Failure.TIMED_OUT, Failure.TRUNCATED)
        return self.result.status is not None and (self.result.status >= 500 or self.result.status == 408)


class Posts:
    """POSTs under one base URL, from as many threads as like."""

    def __init__(self, base_url: str, *, headers: Mapping[str, str]) -> None:
        self._base_url = base_url
        self._session = requests.Session()
        self._session.trust_env = False
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, Punctual())
        self._session.headers.update({"Accept": "application/json", "User-Agent": USER_AGENT, **headers})

    def send(self, path: str, body: bytes, *, content_type: str) -> Answer:
        """Send it once."""
        try:
            return self._send(path, body, content_type)
        except (requests.RequestException, ValueError) as error:
            return Answer(AttemptResult(failure=_failure(error)))

    def _send(self, path: str, body: bytes, content_type: str) -> Answer:
        with self._session.post(
            self._base_url + path,
            data=body,
            headers={"Content-Type": content_type},
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            allow_redirects=False,
            stream=True,
        ) as response:
            said = b""
            for part in response.iter_content(_PART_BYTES):
                said += part
                if len(said) > _MAX_ANSWER_BYTES:
                    said = b""
                    break
            hint = parse_retry_after(response.headers.get("Retry-After"), time.time())
            return Answer(AttemptResult(status=response.status_code, retry_after_seconds=hint), said)


def _failure(error: Exception) -> Failure:
    for kind, failure in _FAILURES:
        if isinstance(error, kind):
            return failure
    # Why there was no connection, if there was none.
    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(reason, NameResolutionError):
        return Failure.DNS_FAILED
    return Failure.CONNECT_FAILED if isinstance(reason, NewConnectionError) else Failure.TRUNCATED
