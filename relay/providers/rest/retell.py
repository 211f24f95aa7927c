"""Retell's REST API (official Python package 6.2.13, api.retellai.com)."""

from __future__ import annotations

from relay.providers.rest.client import Rest
from relay.settings import ProviderAccess


class Retell:
    """Calls of one workspace."""

    def __init__(self, access: ProviderAccess) -> None:
        self._rest = Rest(access.base_url, headers={"Authorization": f"Bearer {access.api_key}"})
