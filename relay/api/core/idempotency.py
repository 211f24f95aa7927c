"""`Idempotency-Key`: the same request sent again gets the answer of the first time, and nothing happens twice.

Answers are kept sealed in Redis for 24 hours, because some show a secret. While the first request runs, a second one
with its key is refused. If the process dies in the middle, the key is free again after three minutes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import msgspec
import redis

from relay.connections import answered
from relay.errors import BadRequest, Conflict, KeyReused
from relay.outbox.keys import PREFIX
from relay.sealing import KeyRing, UnsealError
from relay.telemetry import logs

_KEPT_SECONDS: Final = 24 * 3600
# Longer than the slowest request: several calls of a provider that hardly answers.
_RUNNING_SECONDS: Final = 180
_RUNNING: Final = b"running"
_MAX_KEY_CHARS: Final = 255
_PURPOSE: Final = b"idempotency"


class Kept(msgspec.Struct, frozen=True):
    """An answer that was given."""

    fingerprint: bytes
    status: int
    headers: dict[str, str]
    body: bytes

    def __repr__(self) -> str:
        return "<Kept>"


class Idempotency:
    """Remembers answers by caller and key."""

    def __init__(self, client: redis.Redis, ring: KeyRing) -> None:
        self._client = client
        self._ring = ring

    def once(self, caller: str, key: str, fingerprint: bytes, answer: Callable[[], Kept]) -> tuple[Kept, bool]:
        """The answer to this request, and whether it was given before.

        Raises BadRequest for a key that is none, KeyReused for one that was sent with another request, and Conflict
        while the first request is still running. What raises, or answers 500 and more, is not kept.
        """
        if not 1 <= len(key) <= _MAX_KEY_CHARS or not (key.isascii() and key.isprintable()):
            raise BadRequest(f"Idempotency-Key must be 1 to {_MAX_KEY_CHARS} printable ASCII characters",
                             field="Idempotency-Key")  # fmt: skip
        name = f"{PREFIX}idempotency:{hashlib.blake2b(f'{caller}:{key}'.encode(), digest_size=20).hexdigest()}"
        with answered():
            is_first = self._client.set(name, _RUNNING, nx=True, ex=_RUNNING_SECONDS)
        if not is_first:
            return self._again(name, fingerprint), True
        try:
            kept = answer()
        except BaseException:
            self._forget(name)
            raise
        if kept.status >= 500:
            self._forget(name)
        else:
            self._keep(name, kept)
        return kept, False

    def _keep(self, name: str, kept: Kept) -> None:
        sealed = self._ring.seal(msgspec.msgpack.encode(kept), purpose=_PURPOSE, aad=name.encode())
        try:
            self._client.set(name, sealed, ex=_KEPT_SECONDS)
        except redis.RedisError as error:
            # It is done: whoever was told 503 instead would do it twice.
            logs.warning("answer_not_kept", error=error)

    def _again(self, name: str, fingerprint: bytes) -> Kept:
        with answered():
            raw: Any = self._client.get(name)
        if raw is None or raw == _RUNNING:
            raise Conflict("a request with this Idempotency-Key is still running", code="idempotency_key_in_use")
        try:
            kept = msgspec.msgpack.decode(self._ring.open(raw, purpose=_PURPOSE, aad=name.encode()), type=Kept)
        except UnsealError:
            raise Conflict("the answer of this Idempotency-Key cannot be read any more") from None
        if kept.fingerprint != fingerprint:
            raise KeyReused
        return kept

    def _forget(self, name: str) -> None:
        try:
            self._client.delete(name)
        except redis.RedisError:
            return  # it is forgotten by itself within three minutes


def fingerprint(method: str, path: str, body: bytes) -> bytes:
    """What makes two requests the same."""
    return hashlib.blake2b(b"\x00".join((method.encode(), path.encode(), body)), digest_size=20).digest()
