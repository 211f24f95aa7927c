"""Accounts whose calls providers keep, for tests of reconciliation: the ingress and the lanes in this process."""

from __future__ import annotations

import base64
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pytest
import redis
from flask import Flask
from sqlalchemy import select, text

from relay.connections import postgres_engine
from relay.connections import redis_client as connect_redis
from relay.demo.embedded import EmbeddedPostgres, EmbeddedRedis
from relay.outbox import Claim, Outbox, Room, Settlement, Verb
from relay.outbox.outcomes import AttemptOutcome, OutcomeReader, decode_facts, encode_outcome
from relay.providers import PROVIDERS
from relay.reconciliation import Outcome, Reconciler, Report
from relay.sealing import KeyRing, open_event
from relay.settings import ProviderAccess, Settings
from relay.store import charges, reconciliations, sessions, tables
from relay.store.database import Database
from relay.store.reconciliations import Reconciliation
from relay.store.sessions import Session
from relay.web import close, create_app
from tests.customers import Customer, Customers, Inlet
from tests.fakes.agora import FakeAgora
from tests.fakes.elevenlabs import KEY, FakeElevenLabs
from tests.fakes.retell import FakeRetell
from workers.charge import ChargeLane
from workers.record import RecordLane

OWN_KEY: Final = "xi-key-of-the-account"
AGENT: Final = "agent_of_the_account"
HOOK: Final = "http://127.0.0.1:9/hook"
HOUR: Final = timedelta(hours=1)
_numbers = itertools.count(1)


def ago(span: timedelta) -> datetime:
    """A moment that is over, in whole seconds as providers tell them."""
    return (datetime.now(UTC) - span).replace(microsecond=0)


class World:
    """Switchhook on servers of a test's own, with the operator's keys at all providers."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        client: redis.Redis,
        *,
        elevenlabs: FakeElevenLabs,
        retell: FakeRetell,
        agora: FakeAgora,
    ) -> None:
        self.settings = replace(
            settings,
            elevenlabs=ProviderAccess(base_url=elevenlabs.url, api_key=KEY),
            retell=ProviderAccess(base_url=retell.url, api_key=retell.key),
            agora=ProviderAccess(base_url=agora.url, api_key="customer:secret"),
        )
        self.elevenlabs, self.retell, self.agora = elevenlabs, retell, agora
        self.database, self.client = database, client
        self.ring = KeyRing(settings.keys)
        self.outbox = Outbox(client)
        self.customers = Customers(self.settings, database, client)
        self._app: Flask | None = None
        self._charge = ChargeLane(self.outbox, database)
        self._record = RecordLane(OutcomeReader(client, consumer="test"), database, on_gone=lambda *_: None)

    def close(self) -> None:
        """End it."""
        if self._app is not None:
            close(self._app)

    def customer(self, **options: Any) -> Customer:
        """An account at 0.10 USD a minute, which is old enough for calls of the last days."""
        return self.customers.create(**options)

    def grown_old(self) -> None:
        """What was made by now was made a month ago."""
        for table in ("provider_grants", "provider_keys", "voice_agents", "sources", "templates"):
            self.execute(f"UPDATE {table} SET created_at = now() - interval '30 days'")

    def execute(self, statement: str, **values: Any) -> None:
        """SQL."""
        with self.database.begin() as connection:
            connection.execute(text(statement), values)

    def reconciled(self, **options: Any) -> Report:
        """One turn; the lanes have done what they had to."""
        report = Reconciler(self.settings, self.database, self.ring, self.client).run(**options)
        self.settle()
        return report

    def webhook(self, inlet: Inlet, provider: str, body: bytes) -> dict[str, Any]:
        """A provider's webhook, signed; the answer. The lanes have done what they had to."""
        signed = PROVIDERS[provider].sign(body, secret=inlet.secret, now_ms=int(time.time() * 1000))
        path = inlet.url.partition("/api/")[2]
        self._app = self._app or create_app(self.settings)
        answer = self._app.test_client().post(f"/api/{path}", data=body, headers=dict(signed))
        assert answer.status_code == 200, answer.text
        self.settle()
        found: dict[str, Any] = answer.get_json()
        return found

    def settle(self) -> None:
        """Charge and record all that waits."""
        while self._charge.step():
            pass
        while self._record.step():
            pass

    def sent(self, account_id: str) -> dict[str, bytes]:
        """What waits for endpoints of an account and would be delivered now, by event; it is delivered."""
        claims = self.outbox.claim("relay", Room(1000), alone=False, content=True).units
        mine = [claim for claim in claims if claim.account_id == account_id]
        others = [Settlement(claim, Verb.RELEASE) for claim in claims if claim not in mine]
        self.outbox.settle("relay", [*others, *(_delivered(claim) for claim in mine)])
        self.settle()
        return {
            claim.event_id: open_event(self.ring, claim.sealed or b"", event_id=claim.event_id, account_id=account_id)
            for claim in mine
        }

    def sessions(self, account_id: str) -> list[Session]:
        """The account's sessions, newest first."""
        with self.database.begin() as connection:
            return sessions.page(connection, account_id=account_id)

    def ledger(self, account_id: str) -> list[tuple[str, Decimal]]:
        """Kind and amount of the account's rows, oldest first."""
        with self.database.begin() as connection:
            return [(row.kind, row.amount) for row in reversed(charges.page(connection, account_id=account_id))]

    def days(self, **options: Any) -> list[Reconciliation]:
        """The days that were compared."""
        with self.database.begin() as connection:
            return reconciliations.page(connection, **options)

    def facts_of(self, event_id: str, account_id: str) -> Any:
        """The row of an event."""
        with self.database.begin() as connection:
            found = select(tables.events).where(tables.events.c.id == event_id)
            return connection.execute(found.where(tables.events.c.account_id == account_id)).mappings().one()

    def conversation(self, agent_id: str, *, began: datetime, seconds: int = 60, key: str = KEY, **fields: Any) -> str:
        """A conversation at ElevenLabs that has ended; its id."""
        conversation_id = self.elevenlabs.add_conversation(
            agent_id, start_time_unix_secs=int(began.timestamp()), call_duration_secs=seconds, **fields
        )
        if key != KEY:
            kept = self.elevenlabs.workspace.conversations.pop(conversation_id)
            self.elevenlabs.workspaces[key].conversations[conversation_id] = kept
        return conversation_id

    def call(self, agent_id: str, *, began: datetime, seconds: int = 60, **fields: Any) -> str:
        """A call at Retell that has ended; its id."""
        name = f"call_{next(_numbers)}"
        start_ms = int(began.timestamp() * 1000)
        self.retell.calls[name] = {
            "call_id": name,
            "agent_id": agent_id,
            "call_status": "ended",
            "start_timestamp": start_ms,
            "end_timestamp": start_ms + seconds * 1000,
            "duration_ms": seconds * 1000,
            "call_cost": {"combined_cost": 7},
            "transcript": "Agent: what was said",
            **fields,
        }
        return name


def list_of(report: Report, provider: str, account_id: str = "") -> Outcome:
    """What became of one list."""
    return next(one for one in report.lists if (one.provider, one.account_id) == (provider, account_id))


def counted(report: Report, provider: str, account_id: str = "") -> dict[str, int]:
    """What was done about its calls, without what was not."""
    return dict(+Counter(list_of(report, provider, account_id).tally.counted()))


def transcription(conversation: Mapping[str, Any], *, timestamp: int, **metadata: Any) -> bytes:
    """The webhook that tells of a conversation."""
    shown = {"call_duration_secs": conversation["call_duration_secs"], **metadata}
    shown["start_time_unix_secs"] = conversation["start_time_unix_secs"]
    data = {name: conversation[name] for name in ("conversation_id", "agent_id", "status")} | {"metadata": shown}
    return json.dumps({"type": "post_call_transcription", "event_timestamp": timestamp, "data": data}).encode()


def _delivered(claim: Claim) -> Settlement:
    facts = decode_facts(claim.facts, event_id=claim.event_id, account_id=claim.account_id)
    outcome = AttemptOutcome(
        event_id=claim.event_id,
        endpoint_id=claim.key,
        account_id=claim.account_id,
        accepted_ms=facts.accepted_at_ms,
        number=1,
        status="delivered",
        attempted=True,
    )
    return Settlement(claim, Verb.DONE, attempted=True, outcome=encode_outcome(outcome))


@pytest.fixture(scope="module", name="servers")
def the_providers() -> Iterator[tuple[FakeElevenLabs, FakeRetell, FakeAgora]]:
    """The providers."""
    with FakeElevenLabs(KEY, OWN_KEY) as elevenlabs, FakeRetell() as retell, FakeAgora() as agora:
        yield elevenlabs, retell, agora


@pytest.fixture(scope="module", name="called_settings")
def the_settings(
    embedded_redis: EmbeddedRedis,
    embedded_postgres: EmbeddedPostgres,
    migrated_template: str,
    redis_numbers: Iterator[int],
) -> Iterator[Settings]:
    """A database and a Redis of the module's own."""
    name = f"called_{os.urandom(4).hex()}"
    environ = {
        "DATABASE_URL": embedded_postgres.create_database(name, template=migrated_template),
        "REDIS_URL": embedded_redis.url_of(next(redis_numbers)),
        "SWITCHHOOK_KEYS": base64.b64encode(os.urandom(32)).decode("ascii"),
        "SWITCHHOOK_ALLOW_HTTP": "1",
        "SWITCHHOOK_EGRESS_ALLOW": "127.0.0.0/8",
    }
    yield Settings.from_environ(environ)
    embedded_postgres.drop_database(name)


@pytest.fixture(scope="module", name="called_database")
def the_database(called_settings: Settings) -> Iterator[Database]:
    """Its database."""
    with closing(Database(postgres_engine(called_settings))) as database:
        yield database


@pytest.fixture(name="world")
def one_world(
    called_settings: Settings,
    called_database: Database,
    servers: tuple[FakeElevenLabs, FakeRetell, FakeAgora],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """Nobody knows of any call yet. Providers are asked again without a wait."""
    monkeypatch.setattr("relay.providers.rest.client._WAITS_SECONDS", (0.0, 0.0))
    elevenlabs, retell, agora = servers
    for workspace in elevenlabs.workspaces.values():
        workspace.conversations.clear()
    for fake in servers:
        fake.requests.clear()
    elevenlabs.recover()
    retell.calls.clear()
    agora.agents.clear()
    with connect_redis(called_settings) as client:
        client.flushdb()
        world = World(called_settings, called_database, client, elevenlabs=elevenlabs, retell=retell, agora=agora)
        for table in ("reconciliations", "reconciliation_runs", "provider_grants", "provider_keys", "sessions"):
            world.execute(f"DELETE FROM {table}")
        yield world
        world.close()


@pytest.fixture(name="customer")
def one_customer(world: World) -> Customer:
    """An account that was granted an agent at ElevenLabs and one at Retell, with an endpoint for all that it has."""
    customer = world.customer()
    customer.grant("elevenlabs", AGENT)
    customer.grant("retell", AGENT)
    customer.endpoint(HOOK)
    world.grown_old()
    return customer
