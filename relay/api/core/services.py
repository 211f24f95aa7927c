"""What handlers work with. One for the process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import redis

from relay.agents.clients import Clients
from relay.agents.sessions import Sessions
from relay.agents.signed_urls import SignedUrls
from relay.agents.sync import Sync
from relay.api.core.gates import Gates
from relay.api.core.idempotency import Idempotency
from relay.api.core.limits import RateLimit
from relay.directory import Mirror
from relay.outbox import Admission, Outbox, Verdict
from relay.provisioning import Provisioning
from relay.recordings.intake import RecordingIntake
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Settings, servers, and what changes the configuration."""

    settings: Settings
    client: redis.Redis
    database: Database
    ring: KeyRing
    mirror: Mirror
    outbox: Outbox
    provisioning: Provisioning
    clients: Clients
    sync: Sync
    sessions: Sessions
    signed_urls: SignedUrls
    recordings: RecordingIntake
    gates: Gates
    limit: RateLimit
    idempotency: Idempotency
    # Puts an event of our own on the way that webhooks take.
    commit: Callable[[Admission], Verdict]
