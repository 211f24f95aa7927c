"""New identifiers and secrets. Ids are unguessable: 128 random bits, in letters that survive any case folding."""

from __future__ import annotations

import base64
import secrets
from typing import Final

_ID_BYTES: Final = 16
_SECRET_BYTES: Final = 32


def new_id(prefix: str) -> str:
    """`acc_` and 26 letters and digits, for the prefix `acc`."""
    return f"{prefix}_{base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode('ascii').rstrip('=').lower()}"


def new_webhook_secret() -> str:
    """A secret that travels in `X-Webhook-Secret`: 32 random bytes in base64url."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def new_signing_secret() -> str:
    """A key of `webhook-signature`: `whsec_` and base64 of 32 random bytes (Standard Webhooks 1.0)."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode("ascii")
