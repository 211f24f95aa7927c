"""The providers whose webhooks are signed: one module each, and the registry.

A module of this package *is* a provider: it has the names of `Provider` below. Adding one is copying a module,
editing it, and registering it here. CanaryLLM's routes prove their sender by a shared secret instead of a signature,
so `relay.providers.canaryllm` is not in the registry; its routes call it by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from relay.calls import CallEvent
from relay.providers import elevenlabs, retell


class Provider(Protocol):
    """What a provider's module offers. Every function is pure; the time comes from the caller."""

    @property
    def SIGNATURE_HEADER(self) -> str:  # noqa: N802  (a constant of the module)
        """The header that carries the signature, in the provider's own spelling; look it up without regard to case."""
        ...

    def verify(self, body: bytes, signature: str | None, *, secrets: Sequence[str], now_ms: int) -> bool:
        """Whether `signature` (the header's value; None when missing) proves `body` under any of `secrets`.

        `body` is the raw request body, `now_ms` the Unix time in milliseconds. Never raises, whatever the header.
        """
        ...

    def read(self, body: bytes) -> CallEvent:
        """The facts of a verified body. Raises PayloadError, and nothing else."""
        ...

    def sign(self, body: bytes, *, secret: str, now_ms: int) -> tuple[str, str]:
        """The header's name and value that prove `body` under `secret` as the provider itself would."""
        ...


PROVIDERS: Final[dict[str, Provider]] = {
    elevenlabs.NAME: elevenlabs,
    retell.NAME: retell,
}
