"""Templates with voice agents for tests, and what the fake of ElevenLabs has of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import redis
from sqlalchemy import text

from relay.agents.clients import Clients
from relay.agents.sync import AgentState, Sync
from relay.agents.tools import markers
from relay.connections import postgres_engine
from relay.directory import Mirror
from relay.sealing import KeyRing
from relay.settings import ProviderAccess, Settings
from relay.store import accounts, sources, templates, voice_agents
from relay.store.database import Database
from relay.store.sources import Source
from relay.store.templates import Template
from relay.store.voice_agents import VoiceAgent
from tests.fakes.elevenlabs import KEY, FakeElevenLabs
from tests.fakes.server import Seen

CONFIG: Final[dict[str, Any]] = {"systemPrompt": "Ask kindly.", "voiceId": "voice_1"}
CREATE: Final = "POST /v1/convai/agents/create"


@dataclass(frozen=True, slots=True)
class Owned:
    """A template of an account."""

    account_id: str
    id: int


class Voices:
    """One process that keeps agents in step; `another` is a second one on the same servers."""

    def __init__(self, settings: Settings, client: redis.Redis, fake: FakeElevenLabs) -> None:
        self.fake = fake
        self.database = Database(postgres_engine(settings))
        self._client = client
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """Go on with other settings, as after a restart."""
        self.settings = settings
        self.ring = KeyRing(settings.keys)
        self.mirror = Mirror(self._client, self.ring)
        clients = Clients(settings, self.database, self.ring)
        self.sync = Sync(settings, self.database, self.ring, self.mirror, clients)

    def another(self) -> Voices:
        """A second process."""
        return Voices(self.settings, self._client, self.fake)

    def account(self) -> str:
        """A new account."""
        with self.database.begin() as connection:
            return accounts.create(connection, name="Customer").id

    def create(self, account_id: str | None = None, *, agent_id: str | None = None, **config: Any) -> Owned:
        """A template that wants its agent, as the API commits it; nothing is at the provider yet."""
        account_id = account_id or self.account()
        with self.database.begin() as connection:
            made = templates.create(
                connection,
                self.ring,
                account_id=account_id,
                name="Intake",
                type="conversation",
                config=CONFIG | config,
                agent_id=agent_id,
                client_webhook_url="https://customer.example.com/hook",
            ).template
            self._want(connection, account_id, made.id, agent_id)
        return Owned(account_id, made.id)

    def change(self, template: Owned, *, agent_id: str | None = None, **config: Any) -> None:
        """Change a template; with `agent_id` to an agent that the customer brought."""
        options: dict[str, Any] = {"config": CONFIG | config} | ({"agent_id": agent_id} if agent_id else {})
        with self.database.begin() as connection:
            templates.update(connection, self.ring, account_id=template.account_id, template_id=template.id, **options)
            self._want(connection, template.account_id, template.id, agent_id)

    def delete(self, template: Owned) -> None:
        """Delete a template."""
        with self.database.begin() as connection:
            templates.delete(connection, account_id=template.account_id, template_id=template.id)
            voice_agents.remove(connection, account_id=template.account_id, template_id=template.id)

    def step(self, template: Owned) -> AgentState:
        """What the API does after its commit."""
        return self.sync.template(template.account_id, template.id)

    def row(self, template: Owned) -> VoiceAgent:
        """What is stored of the agent."""
        with self.database.begin() as connection:
            row = voice_agents.get(connection, account_id=template.account_id, template_id=template.id)
        assert row is not None
        return row

    def marker(self, template: Owned) -> str:
        """The tag by which its agents are found again."""
        return markers(self.ring, template.account_id, template.id)[0]

    def stored(self, template: Owned) -> Template:
        """The template."""
        key: dict[str, Any] = {"account_id": template.account_id, "template_id": template.id}
        with self.database.begin() as connection:
            return templates.get(connection, self.ring, **key)

    def source(self, account_id: str) -> Source:
        """The account's only source."""
        with self.database.begin() as connection:
            (source,) = sources.of_account(connection, self.ring, account_id=account_id)
        return source

    def execute(self, statement: str) -> None:
        """Change rows as time and crashes do."""
        with self.database.begin() as connection:
            connection.execute(text(statement))

    def end_leases(self) -> None:
        """The processes that held them are dead, and their time has passed."""
        for table in ("voice_agents", "workspace_webhooks"):
            self.execute(f"UPDATE {table} SET busy_until = now() - interval '1 s' WHERE busy_until IS NOT NULL")

    def pass_waits(self) -> None:
        """Whatever waits for its next attempt is due."""
        self.execute("UPDATE voice_agents SET next_attempt_at = now()")

    def settle(self) -> None:
        """What was asked of the provider so far is so long ago that it has appeared by now, or never will."""
        self.execute("UPDATE voice_agents SET asked_at = asked_at - interval '1 hour', next_attempt_at = now()")

    def at_provider(self) -> tuple[int, int, int]:
        """How many agents, tools and webhooks there are."""
        workspace = self.fake.workspace
        return len(workspace.agents), len(workspace.tools), len(workspace.webhooks)

    @staticmethod
    def _want(connection: Any, account_id: str, template_id: int, agent_id: str | None) -> None:
        voice_agents.want(
            connection,
            account_id=account_id,
            template_id=template_id,
            provider="elevenlabs",
            created_here=agent_id is None,
            agent_id=agent_id,
        )


def pointed_at(settings: Settings, fake: FakeElevenLabs, *, key: str = KEY) -> Settings:
    """Settings of a Switchhook whose ElevenLabs is the fake."""
    access = ProviderAccess(base_url=fake.url, api_key=key)
    return replace(settings, elevenlabs=access, public_url="https://relay.example.com")


def once(call: str, act: Callable[[], None]) -> Callable[[Seen], None]:
    """Act when this call arrives for the first time, before it is answered."""
    done = threading.Event()

    def before(seen: Seen) -> None:
        if f"{seen.method} {seen.path}".startswith(call) and not done.is_set():
            done.set()
            act()

    return before
