"""A template's webhook secret is replaced while conversations are under way, whose tools go on sending the old one."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from relay.settings import ProviderAccess, Settings
from tests.fakes.elevenlabs import KEY, FakeElevenLabs
from tests.integration.api.conftest import Api

PATH = "/api/convagents/templates"
MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings, eleven: FakeElevenLabs) -> Settings:
    """The API with our own key at ElevenLabs."""
    return replace(api_settings, elevenlabs=ProviderAccess(base_url=eleven.url, api_key=KEY))


class Clock:
    """What the ingress takes for now."""

    ahead_ms = 0

    def now_ms(self) -> int:
        """The time, and how far it is ahead."""
        return int(time.time() * 1000) + self.ahead_ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The ingress' own."""
    clock = Clock()
    monkeypatch.setattr("relay.directory._now_ms", clock.now_ms)
    return clock


def make(api: Api, **fields: Any) -> dict[str, Any]:
    """A template of the account, with its secret."""
    shortest = {"name": "T", "type": "conversation", "systemPrompt": "Be kind."}
    made: dict[str, Any] = api.post(PATH, shortest | fields).get_json()["data"]
    return made


def change(api: Api, template: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """What its change is answered with."""
    answer = api.put(f"{PATH}/{template['id']}", fields)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    changed: dict[str, Any] = answer.get_json()["data"]
    return changed


def opens(api: Api, secret: str, route: str = "event") -> int:
    """The status that a tool with this secret gets."""
    sent = api.client.post(f"/api/convagents/webhook/{route}", headers={"X-Webhook-Secret": secret},
                           json={"conversationId": "c1", "name": "response"})  # fmt: skip
    return sent.status_code


def test_the_secret_before_is_good_until_the_longest_call_has_ended(api: Api, clock: Clock) -> None:
    """Of those that began before the agent had the new one: an hour, and five minutes."""
    made = make(api)
    now = change(api, made, webhookSecret=None)
    assert (now["syncStatus"], opens(api, now["webhookSecret"])) == ("synced", 200)
    assert opens(api, made["webhookSecret"]) == 200
    assert opens(api, made["webhookSecret"], "context") == opens(api, now["webhookSecret"], "context") == 409
    clock.ahead_ms = 64 * MINUTE_MS
    assert opens(api, made["webhookSecret"]) == 200
    clock.ahead_ms = 66 * MINUTE_MS
    assert (opens(api, made["webhookSecret"]), opens(api, now["webhookSecret"])) == (401, 200)


def test_it_is_good_for_a_day_while_the_agent_does_not_have_the_new_one(
    api: Api, eleven: FakeElevenLabs, clock: Clock
) -> None:
    """Its new conversations begin with the old one, too. Once it has the new one, the hour begins."""
    made = make(api)
    eleven.fail_next(503, 30)
    now = change(api, made, webhookSecret="another-secret")
    assert (now["syncStatus"], opens(api, "another-secret")) == ("pending", 200)
    clock.ahead_ms = (24 * 60 - 1) * MINUTE_MS
    assert opens(api, made["webhookSecret"]) == 200
    clock.ahead_ms = (24 * 60 + 1) * MINUTE_MS
    assert opens(api, made["webhookSecret"]) == 401

    clock.ahead_ms = 0
    eleven.recover()
    assert change(api, made, description="d")["syncStatus"] == "synced"
    assert (opens(api, "another-secret"), opens(api, made["webhookSecret"])) == (200, 200)
    clock.ahead_ms = 66 * MINUTE_MS
    assert opens(api, made["webhookSecret"]) == 401


def test_later_changes_do_not_prolong_it(api: Api, api_database: Any) -> None:
    """Nor does sending the same secret again."""
    made = make(api)
    change(api, made, webhookSecret="another-secret")
    before = _until(api_database, made)
    change(api, made, description="d")
    change(api, made, webhookSecret="another-secret")
    assert _until(api_database, made) == before
    assert opens(api, made["webhookSecret"]) == 200


def test_a_secret_that_moved_to_another_template_means_that_one(api: Api) -> None:
    """Where the event names neither; two that were exchanged, too."""
    first, second = make(api, webhookSecret="a-moved-secret"), make(api)
    change(api, first, webhookSecret=None)
    change(api, second, webhookSecret="a-moved-secret")
    assert opens(api, "a-moved-secret") == 200
    assert opens(api, "a-moved-secret", "complete") == 200
    change(api, first, webhookSecret=second["webhookSecret"])
    assert (opens(api, "a-moved-secret"), opens(api, second["webhookSecret"])) == (200, 200)
    assert {row["templateId"] for row in api.get("/api/v1/sessions").get_json()["data"]} <= {first["id"], second["id"]}


def test_a_second_change_ends_it_at_once(api: Api) -> None:
    """That is what to do about a secret that leaked: only the one before the newest is good."""
    made = make(api)
    second = change(api, made, webhookSecret=None)
    third = change(api, made, webhookSecret=None)
    assert opens(api, third["webhookSecret"]) == 200
    assert opens(api, second["webhookSecret"]) == 200
    assert opens(api, made["webhookSecret"]) == 401


def test_an_agent_of_the_customers_own_has_a_day(api: Api, clock: Clock) -> None:
    """Nobody but the customer changes its tools."""
    api.grant("elevenlabs", "agent_brought")
    made = make(api, agentId="agent_brought")
    now = change(api, made, webhookSecret=None)
    assert (now["syncStatus"], opens(api, now["webhookSecret"])) == ("synced", 200)
    clock.ahead_ms = (24 * 60 - 1) * MINUTE_MS
    assert opens(api, made["webhookSecret"]) == 200
    clock.ahead_ms = (24 * 60 + 1) * MINUTE_MS
    assert opens(api, made["webhookSecret"]) == 401


def test_only_its_keyed_hash_is_kept(api: Api, api_database: Any) -> None:
    """What is good for a while only need not be opened again."""
    made = make(api, webhookSecret="leaked-secret-of-before")
    change(api, made, webhookSecret=None)
    with api_database.begin() as connection:
        row = connection.execute(text("SELECT t::text FROM templates t WHERE id = :id"), {"id": made["id"]})
        stored = row.scalar_one()
    assert "leaked" not in stored


def _until(database: Any, template: dict[str, Any]) -> Any:
    with database.begin() as connection:
        until = text("SELECT former_secret_until FROM templates WHERE id = :id")
        return connection.execute(until, {"id": template["id"]}).scalar_one()
