"""Sealing: AES-256-GCM under keys derived per purpose and per event from one key ring.

Sealed bytes are `0x01 | length of key id | key id | 12 bytes nonce | ciphertext and tag`. The first key of the ring
seals, all of them open, so a key is retired by putting a new one in front and waiting out the retention.
"""

from __future__ import annotations

import base64
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from relay.errors import SettingsError, SwitchhookError

_VERSION: Final = 1
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
_MIN_PASSPHRASE_CHARS: Final = 32


class UnsealError(SwitchhookError):
    """These sealed bytes open with no key of the ring; was a key removed before its content expired?"""

    code = "unseal_failed"


class KeyRing:
    """The keys of SWITCHHOOK_KEYS: `id:base64,...` (32 bytes each), or one string of 32 or more characters.

    A bare string becomes key `k1` through HKDF-SHA256. Raises SettingsError for anything else.
    """

    def __init__(self, spec: str) -> None:
        self._keys = _parse(spec)
        self._first = next(iter(self._keys))

    def __repr__(self) -> str:
        return f"KeyRing(ids={list(self._keys)})"

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of the keys; the first seals."""
        return tuple(self._keys)

    def seal(self, plain: bytes, *, purpose: bytes, aad: bytes) -> bytes:
        """Seal under a key derived for `purpose`. `purpose` and `aad` must be given again to open."""
        nonce = os.urandom(_NONCE_BYTES)
        name = self._first.encode("ascii")
        sealed = AESGCM(_derive(self._keys[self._first], purpose)).encrypt(nonce, plain, aad)
        return bytes((_VERSION, len(name))) + name + nonce + sealed

    def open(self, sealed: bytes, *, purpose: bytes, aad: bytes) -> bytes:
        """Open what `seal` made. Raises UnsealError if the bytes, the purpose, the AAD or the ring do not fit."""
        if len(sealed) < 2 or sealed[0] != _VERSION:
            raise UnsealError
        start = 2 + sealed[1]
        key = self._keys.get(sealed[2:start].decode("ascii", "replace"))
        if key is None:
            raise UnsealError
        nonce, body = sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :]
        try:
            return AESGCM(_derive(key, purpose)).decrypt(nonce, body, aad)
        except (InvalidTag, ValueError) as error:
            raise UnsealError from error

    def lookup_hashes(self, value: str) -> list[str]:
        """Keyed hashes under which a secret may be indexed: the first key's first. Useless without the ring."""
        return [_keyed_hash(key, value) for key in self._keys.values()]


def seal_event(ring: KeyRing, plain: bytes, *, event_id: str, account_id: str) -> bytes:
    """Seal an event's content under its own key; the event's id and account are authenticated with it."""
    return ring.seal(plain, purpose=b"event " + event_id.encode(), aad=f"{event_id} {account_id}".encode())


def open_event(ring: KeyRing, sealed: bytes, *, event_id: str, account_id: str) -> bytes:
    """Open what `seal_event` made. Raises UnsealError."""
    return ring.open(sealed, purpose=b"event " + event_id.encode(), aad=f"{event_id} {account_id}".encode())


def _derive(key: bytes, purpose: bytes) -> bytes:
    return HKDFExpand(algorithm=SHA256(), length=_KEY_BYTES, info=b"switchhook " + purpose).derive(key)


def _keyed_hash(key: bytes, value: str) -> str:
    mac = HMAC(_derive(key, b"lookup"), SHA256())
    mac.update(value.encode("utf-8", "surrogatepass"))
    return mac.finalize().hex()


def _parse(spec: str) -> dict[str, bytes]:
    if ":" not in spec:
        if len(spec) < _MIN_PASSPHRASE_CHARS:
            raise SettingsError(f"SWITCHHOOK_KEYS must have {_MIN_PASSPHRASE_CHARS} characters or more")
        kdf = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=b"switchhook key ring")
        return {"k1": kdf.derive(spec.encode())}
    keys: dict[str, bytes] = {}
    for position, part in enumerate(filter(None, (part.strip() for part in spec.split(","))), start=1):
        name, _, encoded = part.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except ValueError:
            key = b""  # not base64, or not even ASCII
        if not name or not name.isascii() or len(name) > 32 or len(key) != _KEY_BYTES or name in keys:
            # The position, never the text: what stands before a colon may be half of a secret.
            raise SettingsError(f"SWITCHHOOK_KEYS: key {position} is not a new id and base64 of {_KEY_BYTES} bytes")
        keys[name] = key
    if not keys:
        raise SettingsError("SWITCHHOOK_KEYS holds no key")
    return keys
