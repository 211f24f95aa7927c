"""Calls on a key of the account's own: the account pays its provider, and nothing here; the list price is shown."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from relay.outbox import Outbox
from relay.outbox.outcomes import OutcomeReader
from relay.providers.rest.retell import Retell
from relay.settings import Settings
from relay.store import charges, sessions
from relay.store.sessions import Session
from tests.customers import Customers, Inlet
from tests.fakes.retell import KEY as RETELL_KEY
from tests.integration.api.belongings import AGORA, APPID, Fakes, fake_providers
from tests.integration.api.conftest import Api
from tests.integration.api.requests import OPERATIONS, body_of, headers_of
from tests.payloads import agora_headers, agora_notification, elevenlabs_headers, elevenlabs_transcription
from workers.charge import ChargeLane
from workers.record import RecordLane

TEMPLATES, SESSIONS = "/api/convagents/templates", "/api/convagents/sessions"
SHORTEST = {"name": "T", "type": "conversation", "systemPrompt": "-", "tag": "sales"}
SECONDS = 91
LISTED = Decimal("0.151667")
THEIR_KEY = "their-key"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def fakes() -> Iterator[Fakes]:
    """The providers; at ElevenLabs the account has a workspace of its own."""
    with fake_providers() as fakes:
        fakes.elevenlabs.add_workspace(THEIR_KEY)
        yield fakes


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings, fakes: Fakes) -> Settings:
    """With the operator's keys at them."""
    return fakes.reached_by(api_settings)


@pytest.fixture
def api(api: Api) -> Api:
    """The API, where the account pays ten cents a minute."""
    path = f"/api/v1/accounts/{api.account.id}/rate-cards"
    assert api.post(path, {"perMinute": "0.10"}, key=api.operator_key).status_code == 201
    return api


def source(api: Api, provider: str) -> Inlet:
    """Where a provider's webhooks come in."""
    return Customers(api.settings, api.database, api.redis).known(api.account.id).source(provider)


def tell(api: Api, inlet: Inlet, body: bytes, headers: dict[str, str]) -> None:
    """Send a signed webhook."""
    answer = api.client.post("/api/" + inlet.url.partition("/api/")[2], data=body, headers=headers)
    assert answer.status_code == 200, answer.get_data(as_text=True)


def started(api: Api, **more: Any) -> tuple[dict[str, Any], int]:
    """A new template, and a session of it."""
    template = api.post(TEMPLATES, SHORTEST | more).get_json()["data"]
    answer = api.post(SESSIONS, {"templateId": template["id"]})
    assert answer.status_code == 201, answer.get_json()
    return template, int(answer.get_json()["data"]["session"]["id"])


def session_of(api: Api, session_id: int) -> Session:
    """A session as it is stored."""
    with api.database.begin() as connection:
        return sessions.get(connection, account_id=api.account.id, session_id=session_id)


def by_elevenlabs(api: Api) -> int:
    """A session of a template, which its tool completes."""
    template, session_id = started(api)
    body = {"sessionId": session_id, "conversationId": f"conv_{session_id}", "durationSeconds": SECONDS}
    secret = {"X-Webhook-Secret": template["webhookSecret"]}
    assert api.post("/api/convagents/webhook/complete", body, key="", headers=secret).status_code == 200
    return session_id


def by_conversation(api: Api) -> int:
    """A conversation with an agent of its own, whose end ElevenLabs tells."""
    made = api.post("/v1/conversations/create", body_of(OPERATIONS["POST /v1/conversations/create"])).get_json()
    session_id = int(made["session_id"].removeprefix("conv_"))
    inlet = source(api, "elevenlabs")
    body = elevenlabs_transcription(
        f"conv_of_{session_id}", agent_id=made["agent_id"], seconds=SECONDS, session_id=session_id
    )
    tell(api, inlet, body, elevenlabs_headers(body, inlet.secret))
    return session_id


def by_retell(api: Api) -> int:
    """A web call, which Retell has analysed."""
    agent_id = f"agent_{api.account.id}_{next(_numbers)}"
    api.grant("retell", agent_id)
    _, session_id = started(api, provider="retell", agentId=agent_id)
    call = {"call_id": session_of(api, session_id).conversation_id, "duration_ms": SECONDS * 1000}
    secret = {"X-Canonical-Api-Key": api.account.key}
    told = api.post("/api/v1/webhooks/retell", {"event": "call_analyzed", "call": call}, key="", headers=secret)
    assert told.status_code == 200, told.get_json()
    return session_id


def by_agora(api: Api) -> int:
    """An agent that joined a channel, and has left it."""
    api.grant("agora", APPID)
    join = OPERATIONS[f"POST {AGORA}/join"]
    body = body_of(join) | {"name": f"agent_{next(_numbers)}"}
    headers = headers_of(join, api.account.key, api.account.key_id)
    joined = api.post(join.path.replace("<appid>", APPID), body, key="", headers=headers)
    session_id = int(joined.headers["Switchhook-Session"])
    labels = {"switchhook_account": api.account.id, "switchhook_session": str(session_id)}
    began_at = int(time.time()) - SECONDS
    left = {
        "agent_id": joined.get_json()["agent_id"],
        "start_ts": began_at,
        "stop_ts": began_at + SECONDS,
        "channel": "channel_name",
        "labels": labels,
    }
    inlet = source(api, "agora")
    notice = agora_notification(102, left, notice_id=f"notice_{session_id}")
    tell(api, inlet, notice, agora_headers(notice, inlet.secret))
    return session_id


Way = Callable[[Api], int]
WAYS: list[tuple[Way, str, str]] = [
    (by_elevenlabs, "elevenlabs", THEIR_KEY),
    (by_conversation, "elevenlabs", THEIR_KEY),
    (by_retell, "retell", RETELL_KEY),
    (by_agora, "agora", "customer:secret"),
]


def charged(api: Api) -> None:
    """Have all that was accepted written down and charged."""
    record = RecordLane(OutcomeReader(api.redis, consumer="tests"), api.database, on_gone=lambda *_: None)
    for lane in (record, ChargeLane(Outbox(api.redis), api.database)):
        while lane.step():
            pass


def ledger(api: Api, session_id: int) -> list[tuple[Decimal, Decimal | None, str | None]]:
    """The amounts, list amounts and reasons of a session's rows."""
    with api.database.begin() as connection:
        rows = charges.page(connection, account_id=api.account.id, session_id=session_id)
    return [(row.amount, row.list_amount, row.reason) for row in rows]


@pytest.mark.parametrize(("way", "provider", "key"), WAYS, ids=[way.__name__ for way, _, _ in WAYS])
def test_a_call_on_an_own_key_costs_nothing(api: Api, way: Way, provider: str, key: str) -> None:
    """A row at 0 with the reason and the list price, which the session shows too."""
    assert api.put(f"/api/v1/provider-keys/{provider}", {"key": key}).status_code == 200
    session_id = way(api)
    charged(api)
    assert ledger(api, session_id) == [(Decimal(0), LISTED, "own_provider_key")]
    shown = api.get(f"/api/v1/sessions/{session_id}").get_json()
    assert (shown["cost"], shown["listCost"], shown["waivedReason"]) == ("0.00", "0.151667", "own_provider_key")
    assert (shown["billedSeconds"], shown["unratedReason"]) == (SECONDS, None)
    assert shown["tag"] == (None if way in {by_conversation, by_agora} else "sales")


@pytest.mark.parametrize("way", [way for way, _, _ in WAYS], ids=lambda way: way.__name__)
def test_a_call_on_the_operators_key_is_charged(api: Api, way: Way) -> None:
    """As ever; nothing is waived."""
    session_id = way(api)
    charged(api)
    assert ledger(api, session_id) == [(LISTED, None, None)]
    shown = api.get(f"/api/v1/sessions/{session_id}").get_json()
    assert (shown["cost"], shown["listCost"], shown["waivedReason"]) == ("0.151667", None, None)


@pytest.mark.parametrize("provider", ["elevenlabs", "retell"])
def test_a_session_whose_key_was_refused_did_not_run_on_it(api: Api, provider: str) -> None:
    """A webhook may name it all the same, and its call is charged."""
    agent_id = f"agent_{api.account.id}_{next(_numbers)}"
    api.grant(provider, agent_id)
    template = api.post(TEMPLATES, SHORTEST | {"provider": provider, "agentId": agent_id}).get_json()["data"]
    assert api.put(f"/api/v1/provider-keys/{provider}", {"key": "of-nobody"}).status_code == 200
    assert api.post(SESSIONS, {"templateId": template["id"]}).status_code == 502
    with api.database.begin() as connection:
        (failed,) = sessions.page(connection, account_id=api.account.id)
    assert (failed.status, failed.own_key) == ("failed", False)


def test_a_web_call_is_on_the_own_key_once_retell_has_taken_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Retell is asked nobody knows, and a webhook may name the session already."""
    asked: list[bool] = []
    create = Retell.create_web_call

    def looking(self: Retell, *given: Any, **named: Any) -> Any:
        with api.database.begin() as connection:
            asked.extend(one.own_key for one in sessions.page(connection, account_id=api.account.id))
        return create(self, *given, **named)

    monkeypatch.setattr(Retell, "create_web_call", looking)
    assert api.put("/api/v1/provider-keys/retell", {"key": RETELL_KEY}).status_code == 200
    agent_id = f"agent_{api.account.id}_{next(_numbers)}"
    _, session_id = started(api, provider="retell", agentId=agent_id)
    assert (asked, session_of(api, session_id).own_key) == ([False], True)


def test_a_key_that_is_stored_later_changes_no_call(api: Api) -> None:
    """What has begun on the operator's key is charged, also while the account has its own by then."""
    template, session_id = started(api)
    assert api.put("/api/v1/provider-keys/elevenlabs", {"key": THEIR_KEY}).status_code == 200
    body = {"sessionId": session_id, "conversationId": f"conv_{session_id}", "durationSeconds": SECONDS}
    secret = {"X-Webhook-Secret": template["webhookSecret"]}
    api.post("/api/convagents/webhook/complete", body, key="", headers=secret)
    charged(api)
    assert ledger(api, session_id) == [(LISTED, None, None)]
