"""Agora's Conversational AI Engine, REST API v2 (Agora docs, "Conversational AI"; api.agora.io)."""

from __future__ import annotations

import base64

from relay.providers.rest.client import Rest
from relay.settings import ProviderAccess


class Agora:
    """Agents of one Agora account. The key is `<customer id>:<customer secret>`."""

    def __init__(self, access: ProviderAccess) -> None:
        credentials = base64.b64encode(access.api_key.encode()).decode("ascii")
        self._rest = Rest(access.base_url, headers={"Authorization": f"Basic {credentials}"})
