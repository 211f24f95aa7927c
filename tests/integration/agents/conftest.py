"""A process that keeps voice agents in step with a fake of ElevenLabs. Servers are a module's, the fake is a test's."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator

import pytest
import redis

from relay.connections import redis_client as connect_redis
from relay.demo.embedded import EmbeddedPostgres, EmbeddedRedis
from relay.settings import Settings
from tests.fakes.elevenlabs import FakeElevenLabs
from tests.integration.agents.voices import Voices, pointed_at


@pytest.fixture(scope="module")
def voice_settings(
    embedded_redis: EmbeddedRedis,
    embedded_postgres: EmbeddedPostgres,
    migrated_template: str,
    redis_numbers: Iterator[int],
) -> Iterator[Settings]:
    """A database and a Redis of the module's own."""
    name = f"voices_{os.urandom(4).hex()}"
    environ = {
        "DATABASE_URL": embedded_postgres.create_database(name, template=migrated_template),
        "REDIS_URL": embedded_redis.url_of(next(redis_numbers)),
        "SWITCHHOOK_KEYS": base64.b64encode(os.urandom(32)).decode("ascii"),
    }
    yield Settings.from_environ(environ)
    embedded_postgres.drop_database(name)


@pytest.fixture(scope="module")
def voice_redis(voice_settings: Settings) -> Iterator[redis.Redis]:
    """A client of it."""
    with connect_redis(voice_settings) as client:
        client.flushdb()
        yield client


@pytest.fixture
def fake() -> Iterator[FakeElevenLabs]:
    """ElevenLabs."""
    with FakeElevenLabs() as fake:
        yield fake


@pytest.fixture
def voices(
    voice_settings: Settings, voice_redis: redis.Redis, fake: FakeElevenLabs, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Voices]:
    """One process, which tries again at once; nothing of earlier tests is due."""
    monkeypatch.setattr("relay.providers.rest.client._WAITS_SECONDS", (0.0, 0.0))
    voices = Voices(pointed_at(voice_settings, fake), voice_redis, fake)
    voices.execute("TRUNCATE voice_agents, workspace_webhooks")
    voices.execute("UPDATE templates SET agent_id = NULL")  # the fake gives the same ids again
    yield voices
    voices.database.close()
