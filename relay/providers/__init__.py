"""The providers whose webhooks are signed: one module each, and the registry.

A module of this package *is* a provider: it has the names of `Provider` below. Adding one is copying a module,
editing it, and registering it here. CanaryLLM's routes prove their sender by a shared secret instead of a signature,
so `relay.providers.canaryllm` is not in the registry; its routes call it by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from relay.calls import CallEvent
from relay.providers import agora, elevenlabs, retell


class Provider(Protocol):
    """What a provider's module offers. Every function is pure; the time comes from the caller."""

    @property
    def SIGNATURE_HEADERS(self) -> tuple[str, ...]:  # noqa: N802  (a constant of the module)
        """The headers that may carry the signature, the best first: the first that is there is the one that counts.

        In the provider's own spelling; look them up without regard to case.
        """
        ...

    def verify(self, body: bytes, signature: str | None, *, secrets: Sequence[str], now_ms: int) -> bool:
        """Whether `signature` (the header's value; None when missing) proves `body` under any of `secrets`.

        `body` is the raw request body, `now_ms` the Unix time in milliseconds. Never raises, whatever the header.
        """
        ...

    def read(self, body: bytes) -> CallEvent:
        """The facts of a verified body. Raises PayloadError, or EventIgnored for what is not this provider's at all."""
        ...

    def sign(self, body: bytes, *, secret: str, now_ms: int) -> tuple[tuple[str, str], ...]:
        """The headers, as names and values, that prove `body` under `secret` as the provider itself would."""
        ...


PROVIDERS: Final[dict[str, Provider]] = {
    agora.NAME: agora,
    elevenlabs.NAME: elevenlabs,
    retell.NAME: retell,
}
