"""`Idempotency-Key`: the same request sent again gets the answer of the first time, and nothing happens twice.

Answers are kept sealed in Redis for 24 hours, because some show a secret. While the first request runs, a second one
with its key is refused. If the process dies in the middle, the key is free again within a minute. Of an answer that is
too large to be kept it is known that it was given: its repeat is refused, and still nothing happens twice.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec
import redis

from relay.api.core.allowance import Allowance
from relay.api.core.renewal import Renewal
from relay.connections import answered
from relay.errors import BadRequest, Conflict, KeyReused
from relay.outbox.keys import PREFIX
from relay.sealing import KeyRing, UnsealError
from relay.telemetry import logs

_KEPT_SECONDS: Final = 24 * 3600
# What is sealed begins with another byte.
_RUNNING: Final = b"running:"
# Of a body. Nearly every answer that makes something is below 4 KB.
MAX_KEPT_BYTES: Final = 64 * 1024
_MAX_KEY_CHARS: Final = 255
_PURPOSE: Final = b"idempotency"


class Kept(msgspec.Struct, frozen=True):
    """An answer that was given. One that is not whole was too large: that it was given is all that is kept."""

    fingerprint: bytes
    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool = True

    def __repr__(self) -> str:
        return "<Kept>"


class Idempotency:
    """Remembers answers by caller and key."""

    def __init__(self, client: redis.Redis, ring: KeyRing) -> None:
        self._client = client
        self._ring = ring
        self._renewal = Renewal(client)
        self._allowance = Allowance(client)

    def once(self, caller: str, key: str, fingerprint: bytes, answer: Callable[[], Kept]) -> tuple[Kept, bool]:
        """The answer to this request, and whether it was given before.

        Raises BadRequest for a key that is none, KeyReused for one that was sent with another request, Conflict while
        the first request is still running and for the repeat of an answer that was too large to be kept, RateLimited
        when the caller has as much kept as it may. What raises is not kept, nor an answer of 500 and more: only what
        was done.
        """
        if not 1 <= len(key) <= _MAX_KEY_CHARS or not (key.isascii() and key.isprintable()):
            raise BadRequest(f"Idempotency-Key must be 1 to {_MAX_KEY_CHARS} printable ASCII characters",
                             field="Idempotency-Key")  # fmt: skip
        name = f"{PREFIX}idempotency:{hashlib.blake2b(f'{caller}:{key}'.encode(), digest_size=20).hexdigest()}"
        mark = _RUNNING + secrets.token_bytes(16)
        with answered():
            is_first = self._renewal.mark(name, mark)
        if not is_first:
            return self._again(name, fingerprint), True
        try:
            with self._renewal.renewed(name, mark):
                with answered():
                    self._allowance.check(caller)
                kept = answer()
        except BaseException:
            self._forget(name)
            raise
        if kept.status >= 500:
            self._forget(name)
        else:
            self._keep(caller, name, kept)
        return kept, False

    def _keep(self, caller: str, name: str, kept: Kept) -> None:
        if len(kept.body) > MAX_KEPT_BYTES:
            kept = msgspec.structs.replace(kept, headers={}, body=b"", is_whole=False)
        sealed = self._ring.seal(msgspec.msgpack.encode(kept), purpose=_PURPOSE, aad=name.encode())
        try:
            self._client.set(name, sealed, ex=_KEPT_SECONDS)
            self._allowance.spend(caller, len(sealed))
        except redis.RedisError as error:
            # It is done: whoever was told 503 instead would do it twice.
            logs.warning("answer_not_kept", error=error)

    def _again(self, name: str, fingerprint: bytes) -> Kept:
        with answered():
            raw: Any = self._client.get(name)
        if raw is None or raw.startswith(_RUNNING):
            raise Conflict("a request with this Idempotency-Key is still running", code="idempotency_key_in_use")
        try:
            kept = msgspec.msgpack.decode(self._ring.open(raw, purpose=_PURPOSE, aad=name.encode()), type=Kept)
        except UnsealError:
            raise Conflict(
                "the answer of this Idempotency-Key cannot be read any more", code="idempotency_answer_lost"
            ) from None
        if kept.fingerprint != fingerprint:
            raise KeyReused
        if not kept.is_whole:
            text = "this was done the first time, and its answer was too large to be kept; read what it made"
            raise Conflict(text, code="answer_too_large_to_repeat")
        return kept

    def _forget(self, name: str) -> None:
        try:
            self._client.delete(name)
        except redis.RedisError:
            return  # it is forgotten by itself within a minute


def fingerprint(method: str, path: str, body: bytes) -> bytes:
    """What makes two requests the same."""
    return hashlib.blake2b(b"\x00".join((method.encode(), path.encode(), body)), digest_size=20).digest()
