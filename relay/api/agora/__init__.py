"""Agora's own routes, for its own clients: agents join here as they would at Agora, and are sessions of the account."""

from __future__ import annotations

from relay.api.agora.operations import group

__all__ = ["group"]
