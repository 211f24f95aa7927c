"""Signed URLs under hard limits: what is held back for a session opens one conversation, not one for each URL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from flask import Flask
from sqlalchemy import select, text
from werkzeug.test import TestResponse

from relay.settings import ProviderAccess, Settings
from relay.store import rate_cards, tables
from tests.fakes.elevenlabs import KEY, FakeElevenLabs
from tests.integration.api.conftest import Api

pytestmark = pytest.mark.usefixtures("day_that_goes_on")

PATH = "/api/agents/signed-url"
SIGNED = "GET /v1/convai/conversation/get-signed-url"
TEMPLATE = {"name": "T", "type": "conversation", "systemPrompt": "Be kind.", "maxDurationSeconds": 600}


class Held(NamedTuple):
    """A session that is pending, and its agent."""

    id: int
    agent_id: str
    template_id: int

    def wanted(self) -> dict[str, Any]:
        """The body that asks for a URL of it."""
        return {"agentId": self.agent_id, "sessionId": self.id}


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings, eleven: FakeElevenLabs) -> Settings:
    """The API with our own key at ElevenLabs."""
    return replace(api_settings, elevenlabs=ProviderAccess(base_url=eleven.url, api_key=KEY))


@pytest.fixture(autouse=True)
def _well(eleven: FakeElevenLabs) -> Iterator[None]:
    yield
    eleven.recover()
    eleven.before = lambda _: None


def a_price(api: Api) -> None:
    """0.10 a minute: 1.00 for the ten minutes of a call."""
    with api.database.begin() as connection:
        rate_cards.add(connection, api.account.id, per_minute=Decimal("0.10"))


def a_limit(api: Api, amount: str = "1.00", **more: Any) -> str:
    """A hard limit; its id."""
    answer = api.post("/api/v1/budgets", {"amount": amount, "hardLimit": True} | more)
    assert answer.status_code == 201, answer.text
    return str(answer.get_json()["id"])


def a_session(api: Api, **template: Any) -> Held:
    """A session of a new template: its first signed URL was given with it."""
    made = api.post("/api/convagents/templates", TEMPLATE | template).get_json()["data"]
    answer = api.post("/api/convagents/sessions", {"templateId": made["id"]})
    assert answer.status_code == 201, answer.text
    return Held(answer.get_json()["data"]["session"]["id"], made["agentId"], made["id"])


def a_held_session(api: Api) -> Held:
    """A session for which all that the account may spend is held back."""
    a_price(api)
    a_limit(api)
    return a_session(api)


def ask(api: Api, held: Held) -> TestResponse:
    """For another URL of it."""
    return api.post(PATH, held.wanted())


def change(api: Api, what: str) -> None:
    """Something of the account's sessions."""
    with api.database.begin() as connection:
        connection.execute(text(f"UPDATE sessions SET {what} WHERE account_id = :id"), {"id": api.account.id})


def let_it_expire(api: Api) -> None:
    """The last URL."""
    change(api, "url_expires_at = now()")


def expires_in(api: Api, held: Held) -> float:
    """How many seconds are left of the last URL."""
    this = (tables.sessions.c.account_id == api.account.id, tables.sessions.c.id == held.id)
    with api.database.begin() as connection:
        until: datetime = connection.execute(select(tables.sessions.c.url_expires_at).where(*this)).scalar_one()
    return (until - datetime.now(UTC)).total_seconds()


def assert_given(answer: TestResponse, left: float) -> None:
    """It was refused because a URL was given that opens its conversation for about so many seconds more."""
    assert (answer.status_code, answer.get_json()["code"]) == (409, "SIGNED_URL_GIVEN")
    assert left - 5 < int(answer.headers["Retry-After"]) <= left
    said = answer.get_json()["error"]
    assert "begin another session" in said
    until = datetime.fromisoformat(said.split(" until ")[1].split(" ")[0].rstrip(",;"))
    assert left - 6 < (until - datetime.now(UTC)).total_seconds() <= left


def test_a_held_session_gives_one_url_at_a_time(api: Api, eleven: FakeElevenLabs) -> None:
    """The first came with it; the next when that has expired, and not before. The provider is not asked for others."""
    held = a_held_session(api)
    assert 895 < expires_in(api, held) <= 900
    before = eleven.calls(SIGNED)
    for _ in range(3):
        assert_given(ask(api, held), 900)
    assert eleven.calls(SIGNED) == before
    change(api, "url_expires_at = now() + interval '10 seconds'")
    assert_given(ask(api, held), 10)
    let_it_expire(api)
    answer = ask(api, held)
    assert (answer.status_code, answer.get_json()["data"]["expiresIn"]) == (200, 900)
    assert_given(ask(api, held), 900)
    assert api.get("/api/v1/budgets").get_json()["data"][0]["reserved"] == "1.00"


def test_what_is_no_longer_held_back_opens_nothing(api: Api) -> None:
    """A URL could begin its call for 15 minutes more: so long before the end of the 2 hours there is none."""
    held = a_held_session(api)
    let_it_expire(api)
    change(api, "created_at = now() - interval '104 minutes'")
    assert ask(api, held).status_code == 200
    let_it_expire(api)
    change(api, "created_at = now() - interval '106 minutes'")
    assert (ask(api, held).status_code, ask(api, held).get_json()["code"]) == (402, "BUDGET_EXCEEDED")


def test_a_url_that_was_given_without_a_limit_counts_under_the_next(api: Api) -> None:
    """It opens its conversation, whatever was so when it was given."""
    a_price(api)
    limit = a_limit(api)
    held = a_session(api)
    assert api.patch(f"/api/v1/budgets/{limit}", {"hardLimit": False}).status_code == 200
    let_it_expire(api)
    assert ask(api, held).status_code == 200
    assert api.patch(f"/api/v1/budgets/{limit}", {"hardLimit": True}).status_code == 200
    assert_given(ask(api, held), 900)


def test_a_url_lasts_from_when_the_provider_made_it(api: Api, eleven: FakeElevenLabs) -> None:
    """However long that took: the next one is not to be had while this one opens anything."""
    held = a_held_session(api)
    let_it_expire(api)
    eleven.before = lambda _: change(api, "url_expires_at = url_expires_at - interval '20 seconds'")
    assert ask(api, held).status_code == 200
    assert 895 < expires_in(api, held) <= 900


def test_a_session_of_an_older_version_gave_its_first_url_when_it_was_made(api: Api) -> None:
    """It says nothing of URLs; so does one that was begun together with its URL."""
    held = a_held_session(api)
    change(api, "url_expires_at = NULL, created_at = now() - interval '890 seconds'")
    assert_given(ask(api, held), 10)
    change(api, "created_at = now() - interval '900 seconds'")
    assert ask(api, held).status_code == 200
    assert_given(ask(api, held), 900)


def test_a_conversation_of_nurs_clients_gives_one_url_at_a_time(api: Api) -> None:
    """Its signed URL came with it as well."""
    a_price(api)
    a_limit(api)
    made = api.post("/v1/conversations/create", {"voice_id": "v", "system_prompt": "Be kind."}).get_json()
    held = Held(int(made["session_id"].removeprefix("conv_")), made["agent_id"], 0)
    assert_given(ask(api, held), 900)
    change(api, "created_at = now() - interval '900 seconds'")
    assert ask(api, held).status_code == 200
    assert_given(ask(api, held), 900)


def test_of_two_at_once_one_gets_a_url(api: Api, api_app: Flask, eleven: FakeElevenLabs) -> None:
    """Whoever comes while the provider is asked for the first."""
    held = a_held_session(api)
    let_it_expire(api)
    asked, go_on = threading.Event(), threading.Event()

    def wait(_: Any) -> None:
        asked.set()
        assert go_on.wait(10)

    eleven.before = wait
    with ThreadPoolExecutor() as pool:
        first = pool.submit(ask, replace(api, client=api_app.test_client()), held)
        assert asked.wait(10)
        eleven.before = lambda _: None
        second = ask(api, held)
        go_on.set()
        assert_given(second, 900)
        assert first.result().status_code == 200


def test_of_many_at_once_one_gets_a_url(api: Api, api_app: Flask) -> None:
    """Postgres decides which."""
    held = a_held_session(api)
    together = threading.Barrier(6)

    def once(client: Api) -> int:
        together.wait(10)
        return ask(client, held).status_code

    for _ in range(3):
        let_it_expire(api)
        with ThreadPoolExecutor(6) as pool:
            clients = [replace(api, client=api_app.test_client()) for _ in range(6)]
            assert sorted(pool.map(once, clients)) == [200, 409, 409, 409, 409, 409]


@pytest.mark.parametrize(("theirs", "ours"), [(400, 502), (503, 503)])
def test_a_url_that_the_provider_did_not_give_is_not_waited_for(
    api: Api, eleven: FakeElevenLabs, theirs: int, ours: int
) -> None:
    """The next one is to be had at once."""
    held = a_held_session(api)
    let_it_expire(api)
    eleven.fail_next(theirs, times=3, on=SIGNED)
    assert ask(api, held).status_code == ours
    eleven.recover()
    assert ask(api, held).status_code == 200
    assert_given(ask(api, held), 900)


def test_without_a_hard_limit_urls_are_to_be_had_as_often_as_one_likes(api: Api) -> None:
    """Where there is no budget, none with a hard limit, none of this tag, or no longer any."""
    a_price(api)
    free = a_session(api)
    assert [ask(api, free).status_code for _ in range(3)] == [200] * 3
    api.post("/api/v1/budgets", {"amount": "1", "tag": "soft"})
    a_limit(api, tag="support")
    for tag in ("soft", "other"):
        other = a_session(api, tag=tag)
        assert [ask(api, other).status_code for _ in range(2)] == [200] * 2
    limit = a_limit(api)
    held = a_session(api)
    assert_given(ask(api, held), 900)
    assert api.patch(f"/api/v1/budgets/{limit}", {"hardLimit": False}).status_code == 200
    assert [ask(api, held).status_code for _ in range(2)] == [200] * 2


def test_a_limit_of_the_sessions_tag_applies_as_well(api: Api) -> None:
    """Though the account itself has none."""
    a_price(api)
    a_limit(api, tag="support")
    assert_given(ask(api, a_session(api, tag="support")), 900)


def test_a_session_of_another_agent_or_template_is_not_found(api: Api, eleven: FakeElevenLabs) -> None:
    """Its conversation would go in the other's envelope, to the other's endpoint. The provider is not asked."""
    mine, other = a_session(api), a_session(api)
    before = eleven.calls(SIGNED)
    answer = api.post(PATH, {"agentId": mine.agent_id, "sessionId": other.id})
    assert (answer.status_code, answer.get_json()["code"]) == (404, "NOT_FOUND")
    assert eleven.calls(SIGNED) == before
    change(api, f"agent_id = '{mine.agent_id}', template_id = NULL")  # of this agent, if of no template
    assert api.post(PATH, {"agentId": mine.agent_id, "sessionId": other.id}).status_code == 200
    change(api, f"agent_id = 'agent_before', template_id = {mine.template_id}")  # of its template, by an older agent
    assert ask(api, mine).status_code == 200


@pytest.mark.parametrize("status", ["completed", "failed", "abandoned"])
def test_a_session_that_is_over_opens_nothing(api: Api, eleven: FakeElevenLabs, status: str) -> None:
    """409; without it the agent is to be had."""
    over = a_session(api)
    change(api, f"status = '{status}'")
    before = eleven.calls(SIGNED)
    answer = ask(api, over)
    assert (answer.status_code, answer.get_json()["code"]) == (409, "SESSION_OVER")
    assert "begin another session" in answer.get_json()["error"]
    assert eleven.calls(SIGNED) == before
    assert api.post(PATH, {"agentId": over.agent_id}).status_code == 200
