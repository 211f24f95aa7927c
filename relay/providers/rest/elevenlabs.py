"""ElevenLabs' REST API (official Python package 2.78, api.elevenlabs.io)."""

from __future__ import annotations

from relay.providers.rest.client import Rest
from relay.settings import ProviderAccess


class ElevenLabs:
    """Agents, workspace webhooks, signed URLs and conversations of one workspace."""

    def __init__(self, access: ProviderAccess) -> None:
        self._rest = Rest(access.base_url, headers={"xi-api-key": access.api_key})
