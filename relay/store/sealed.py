"""What configuration rows keep sealed: a value as JSON, under a key for its kind of row, bound to the row's id."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from relay.sealing import KeyRing

SOURCE: Final = b"source"
ENDPOINT: Final = b"endpoint"
TEMPLATE: Final = b"template"
PROVIDER_KEY: Final = b"provider-key"

T = TypeVar("T")


class Secretive(msgspec.Struct, frozen=True, kw_only=True):
    """A struct that may hold secrets: its repr names its type and nothing else."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Target(Secretive, frozen=True, kw_only=True):
    """Where an endpoint is and what proves us to it. `signing_secrets` has the newest first."""

    url: str
    webhook_secret: str
    signing_secrets: tuple[str, ...]
    headers: dict[str, str] = {}


def seal(ring: KeyRing, value: object, *, purpose: bytes, row_id: str | int) -> bytes:
    """Seal a value that msgspec can write as JSON."""
    return ring.seal(msgspec.json.encode(value), purpose=purpose, aad=str(row_id).encode())


def unseal(ring: KeyRing, sealed: bytes, kind: type[T], *, purpose: bytes, row_id: str | int) -> T:
    """Open what `seal` made. Raises UnsealError."""
    return msgspec.json.decode(ring.open(sealed, purpose=purpose, aad=str(row_id).encode()), type=kind)
