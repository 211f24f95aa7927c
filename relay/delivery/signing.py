"""The headers of a delivery: its identity, its proof, and what the endpoint asked for.

Proof is always that of Standard Webhooks 1.0: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`, keyed by the
bytes behind `whsec_`. An endpoint may ask for the provider's own signature besides: made again at each attempt, over
the bytes that are delivered, with the endpoint's signing secret (its whole text) in the place of the provider's.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import quote

from relay.calls import Facts
from relay.delivery.envelope import iso_utc
from relay.providers import PROVIDERS

SigningMode = Literal["standard", "provider"]

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  (what such secrets begin with)
_SECRET_BYTES: Final = 32
_UNSENDABLE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_VISIBLE: Final = "".join(map(chr, range(0x20, 0x7F)))


@dataclass(frozen=True, slots=True)
class Signing:
    """How the deliveries of one endpoint are signed. Made once per endpoint and kept: the keys are prepared here.

    Raises ValueError, quoting nothing, for a signing secret that `signing_key` refuses, for none at all, and for
    control characters in what becomes a header.
    """

    mode: SigningMode
    # The newest first; during a rotation the one before it too. Only the newest signs in the provider's format.
    signing_secrets: tuple[str, ...] = field(repr=False)
    # Sent as X-Webhook-Secret; None sends none.
    webhook_secret: str | None = field(default=None, repr=False)
    # The endpoint's own headers, as names and values.
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    _macs: tuple[hmac.HMAC, ...] = field(init=False, repr=False, compare=False)
    _fixed_lines: tuple[bytes, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.signing_secrets:
            raise ValueError("an endpoint needs a signing secret")
        macs = tuple(hmac.new(signing_key(secret), digestmod="sha256") for secret in self.signing_secrets)
        own = [] if self.webhook_secret is None else [("X-Webhook-Secret", self.webhook_secret)]
        lines = [_configured_line(name, value) for name, value in (*own, *self.headers)]
        object.__setattr__(self, "_macs", macs)
        # libcurl asks for 100-continue before larger bodies; that would cost a round trip, or a second of waiting.
        object.__setattr__(self, "_fixed_lines", (*lines, b"Expect:"))

    def standard_signature(self, message_id: str, timestamp_seconds: int, body: bytes) -> str:
        """The value of `webhook-signature`: one signature per secret, separated by spaces."""
        prefix = f"{message_id}.{timestamp_seconds}.".encode()
        signatures = []
        for keyed in self._macs:
            mac = keyed.copy()
            mac.update(prefix)
            mac.update(body)
            signatures.append("v1," + base64.b64encode(mac.digest()).decode("ascii"))
        return " ".join(signatures)


def delivery_headers(
    facts: Facts,
    body: bytes,
    *,
    signing: Signing,
    attempt: int,
    now_ms: int,
    is_enveloped: bool,
    is_refetched: bool = False,
) -> list[bytes]:
    """The header lines of one attempt, `Name: value`, as libcurl's HTTPHEADER takes them.

    `body` is exactly what is sent: the envelope (`is_enveloped`) or the provider's bytes, with their content type.
    `attempt` counts from 1; `now_ms` is the Unix time of this attempt; `is_refetched` tells that the content was
    fetched again from the provider.
    """
    seconds = now_ms // 1000
    call = facts.call
    lines = [
        _line("webhook-id", facts.event_id),
        _line("webhook-timestamp", str(seconds)),
        _line("webhook-signature", signing.standard_signature(facts.event_id, seconds, body)),
    ]
    if signing.mode == "provider" and (provider := PROVIDERS.get(call.provider)) is not None:
        proofs = provider.sign(body, secret=signing.signing_secrets[0], now_ms=now_ms)
        lines += [_line(name, value) for name, value in proofs]
    lines += (
        _line("Content-Type", "application/json" if is_enveloped else facts.content_type),
        _line("Switchhook-Event", call.type),
        _line("Switchhook-Session", str(facts.session_id)),
        _line("Switchhook-Attempt", str(attempt)),
    )
    if call.occurred_at_ms is not None:
        lines.append(_line("Switchhook-Occurred-At", iso_utc(call.occurred_at_ms)))
    if is_refetched:
        lines.append(b"Switchhook-Refetched: 1")
    lines += signing._fixed_lines
    return lines


def signing_key(secret: str) -> bytes:
    """The key in a signing secret: the base64 behind `whsec_`. Raises ValueError, quoting nothing."""
    encoded = secret.removeprefix(SECRET_PREFIX)
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key or encoded == secret:
        raise ValueError(f"a signing secret is {SECRET_PREFIX} and base64")
    return key


def new_signing_secret() -> str:
    """A fresh signing secret: `whsec_` and base64 of 32 random bytes (Standard Webhooks 1.0 wants 24 to 64)."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode("ascii")


def new_webhook_secret() -> str:
    """A fresh X-Webhook-Secret: 43 characters that are safe in a header, a URL and a shell."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def _line(name: str, value: str) -> bytes:
    """A header line; what is not visible ASCII is percent-encoded, for a provider may name its events as it likes."""
    if not (value.isascii() and value.isprintable()):
        value = quote(value, safe=_VISIBLE, errors="replace")
    return f"{name}: {value}".encode("ascii")


def _configured_line(name: str, value: str) -> bytes:
    # libcurl takes "Name:" for the wish to send no such header, and "Name;" for an empty value.
    line = f"{name}: {value}".encode() if value else f"{name};".encode()
    if _UNSENDABLE.search(line):
        raise ValueError("a header of this endpoint holds a control character")
    return line
