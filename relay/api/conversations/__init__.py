"""Speech-to-speech conversations: a session with an agent of its own, made in one call."""

from __future__ import annotations

from relay.api.conversations.operations import group

__all__ = ["group"]
