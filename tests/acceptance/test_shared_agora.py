"""An agent that an account had join Agora, on the operator's credentials, through the processes of the Procfile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest

from relay.agents.agora import AgoraAgents
from relay.agents.clients import Clients
from relay.directory import Mirror
from relay.errors import Unavailable
from relay.sealing import KeyRing
from relay.settings import ProviderAccess
from relay.store import grants, sessions
from tests.customers import Customer, Inlet
from tests.fakes.agora import FakeAgent, FakeAgora
from tests.payloads import agora_headers, agora_notification
from tests.receiver import Receiver
from tests.stack import Stack
from tests.waiting import eventually

APPID = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Scene:
    """A customer, Agora, and the operator's shared source, which is in an account of its own."""

    stack: Stack
    customer: Customer
    agora: FakeAgora
    shared: Inlet

    def join(self) -> tuple[FakeAgent, int]:
        """An agent of the customer's, and its session."""
        access = ProviderAccess(base_url=self.agora.url, api_key="operators:own")
        settings, ring = replace(self.stack.settings, agora=access), KeyRing(self.stack.settings.keys)
        database = self.stack.database
        with database.begin() as connection:
            grants.add(connection, account_id=self.customer.id, provider="agora", object_id=APPID)
        agents = AgoraAgents(database, Mirror(self.stack.redis, ring), Clients(settings, database, ring))
        properties = {"channel": "c", "token": "t", "agent_rtc_uid": "1", "remote_rtc_uids": ["*"]}
        made = agents.join(self.customer.id, APPID, "ann", properties, more={"preset": "a_preset"})
        return self.agora.agents[made.started.agent_id], made.session_id

    def tell(self, event_type: int, payload: dict[str, Any]) -> None:
        """Agora tells of an agent."""
        body = agora_notification(event_type, payload, notice_id=f"{payload['agent_id']}:{event_type}")
        answer = self.stack.post(self.shared.url, body, agora_headers(body, self.shared.secret))
        assert answer.status_code == 200

    def status(self, session_id: int) -> str:
        """The session's status."""
        with self.stack.database.begin() as connection:
            return sessions.get(connection, account_id=self.customer.id, session_id=session_id).status


@pytest.fixture
def scene(stack: Stack, customer: Customer) -> Iterator[Scene]:
    """A scene of its own for a test."""
    with FakeAgora() as agora:
        yield Scene(stack, customer, agora, stack.customers.create().source("agora", shared=True))


@pytest.mark.parametrize("is_recorded", [True, False])
def test_an_agents_session_begins_ends_and_is_charged_to_its_account(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, is_recorded: bool
) -> None:
    """By its label, also if what Agora answered to `join` was never recorded."""
    stack, customer = scene.stack, scene.customer
    customer.endpoint(receiver.url)
    if not is_recorded:

        def away(*_: Any, **__: Any) -> None:
            raise Unavailable

        monkeypatch.setattr(sessions, "begun", away)
    agent, session_id = scene.join()
    assert scene.status(session_id) == "pending"

    scene.tell(101, agent.payload())
    eventually(lambda: scene.status(session_id) == "active", within_seconds=10, what="an active session")
    scene.tell(102, agent.payload(stop_ts=agent.start_ts + 91, status="STOPPED", message="OK"))
    stack.await_settled(customer)

    [session] = stack.sessions(customer)
    assert (session.id, session.status, session.duration_seconds) == (session_id, "completed", 91)
    assert (session.provider, session.conversation_id) == ("agora", agent.agent_id)
    [charge] = stack.charges(customer)
    assert (charge.session_id, charge.amount, charge.currency) == (session_id, Decimal("0.151667"), "USD")
    types = {post.headers["switchhook-event"]: post.headers["switchhook-session"] for post in receiver.posts}
    assert types == {"agora.agent_joined": str(session_id), "agora.agent_left": str(session_id)}
