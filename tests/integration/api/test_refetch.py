"""Content that is gone, from its provider again: where the provider keeps it, and it is the account's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import TestResponse

from relay.outbox.outcomes import decode_facts
from relay.providers.retell import ACCOUNT_LABEL
from relay.settings import ProviderAccess, Settings
from relay.store import sessions
from relay.store.tables import accounts
from tests.fakes.elevenlabs import KEY, FakeElevenLabs
from tests.fakes.retell import FakeRetell
from tests.integration.api.conftest import Api
from tests.integration.api.past import Past

OWN_KEY = "xi-key-of-the-account"
SAID = {"transcript": [{"role": "agent", "message": "Hello again."}]}


@pytest.fixture(scope="module")
def elevenlabs_server() -> Iterator[FakeElevenLabs]:
    """ElevenLabs: a workspace for our key and one for the account's own."""
    with FakeElevenLabs(KEY, OWN_KEY) as fake:
        yield fake


@pytest.fixture(scope="module")
def retell_server() -> Iterator[FakeRetell]:
    """Retell, for one key."""
    with FakeRetell() as fake:
        yield fake


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings, elevenlabs_server: FakeElevenLabs, retell_server: FakeRetell) -> Settings:
    """With providers to go to, and our own keys there."""
    return replace(
        api_settings,
        elevenlabs=ProviderAccess(base_url=elevenlabs_server.url, api_key=KEY),
        retell=ProviderAccess(base_url=retell_server.url, api_key=retell_server.key),
    )


@pytest.fixture
def elevenlabs(elevenlabs_server: FakeElevenLabs) -> Iterator[FakeElevenLabs]:
    """ElevenLabs as if nobody had asked it anything; what a test has it do is over afterwards."""
    elevenlabs_server.requests.clear()
    yield elevenlabs_server
    elevenlabs_server.recover()
    elevenlabs_server.before = lambda _: None


@pytest.fixture
def retell(retell_server: FakeRetell) -> FakeRetell:
    """Retell as if nobody had asked it anything."""
    retell_server.requests.clear()
    return retell_server


@pytest.fixture
def past(api: Api) -> Past:
    """What has happened to the account."""
    return Past(api)


@pytest.fixture
def own_key(api: Api) -> None:
    """The account has a key of its own at ElevenLabs."""
    assert api.put("/api/v1/provider-keys/elevenlabs", {"key": OWN_KEY}).status_code == 200


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Providers are asked again without a wait."""
    monkeypatch.setattr("relay.providers.rest.client._WAITS_SECONDS", (0.0, 0.0))


def conversation(fake: FakeElevenLabs, name: str, /, *, key: str = OWN_KEY, **fields: Any) -> None:
    """A conversation that the workspace of a key keeps under this name."""
    kept = {"conversation_id": name, "agent_id": "agent_1", "status": "done", "call_duration_secs": 91}
    fake.workspaces[key].conversations[name] = kept | SAID | fields


def replayed(api: Api, event: str, endpoint: str) -> TestResponse:
    """The answer to the wish."""
    return api.post(f"/api/v1/deliveries/{event}/{endpoint}/replay")


def refused(answer: TestResponse) -> tuple[int, str]:
    """Its status and code."""
    return answer.status_code, answer.get_json()["code"]


@pytest.mark.usefixtures("own_key")
def test_a_delivered_event_is_fetched_again(api: Api, past: Past, elevenlabs: FakeElevenLabs) -> None:
    """In the webhook's form, marked as fetched again, with the next attempt number; nothing is charged for it."""
    endpoint = past.endpoint()
    event = past.event({endpoint: "delivered"}, conversation_id="conv/../again")
    conversation(elevenlabs, "conv%2F..%2Fagain", conversation_id="conv/../again")
    charged = past.charges()
    answer = replayed(api, event, endpoint)
    assert (answer.status_code, answer.get_json()["answer"]) == (202, "refetched")
    claim = past.waiting(event)[endpoint]
    content = past.content(claim)
    head = b'{"type":"post_call_transcription","event_timestamp":%d,"data":{"transcript": [{"role"'
    facts = decode_facts(claim.facts, event_id=event, account_id=api.account.id)
    assert content.startswith(head % (facts.accepted_at_ms // 1000))
    assert content.endswith(b"}}")
    assert b"Hello again." in content
    assert (claim.attempts, claim.is_replay, facts.refetched) == (1, True, True)
    assert facts.call.type == "elevenlabs.post_call_transcription"
    past.end(event, {endpoint: "delivered"})
    past.record()
    shown = api.get(f"/api/v1/deliveries/{event}/{endpoint}").get_json()
    assert (shown["status"], shown["attempts"], len(shown["history"])) == ("delivered", 2, 2)
    assert past.charges() == charged
    assert not past.kept(event)
    assert past.audited() == [(api.account.key_id, "delivery.replayed", f"{event}/{endpoint}")]


@pytest.mark.usefixtures("own_key")
def test_both_endpoints_get_it_for_one_question(api: Api, past: Past, elevenlabs: FakeElevenLabs) -> None:
    """What was fetched for one of them is there for the other."""
    one, two = past.endpoint(), past.endpoint()
    event = past.event({one: "delivered", two: "delivered"}, conversation_id="conv_both")
    conversation(elevenlabs, "conv_both")
    told = api.post("/api/v1/deliveries/replay", {"since": "2026-01-01T00:00:00Z", "status": "delivered"}).get_json()
    assert told["counts"] == {"refetched": 1, "replayed": 1}
    assert set(past.waiting(event)) == {one, two}
    assert len(elevenlabs.calls("GET /v1/convai/conversations")) == 1


@pytest.mark.usefixtures("own_key")
def test_what_was_lost_comes_back_too(api: Api, past: Past, elevenlabs: FakeElevenLabs) -> None:
    """It ended as content_lost, and the outbox has forgotten it."""
    endpoint = past.endpoint()
    event = past.event({endpoint: "content_lost"}, conversation_id="conv_lost")
    conversation(elevenlabs, "conv_lost")
    assert replayed(api, event, endpoint).get_json()["answer"] == "refetched"
    assert past.waiting(event)[endpoint].attempts == 1


def test_our_key_opens_only_what_was_made_here_for_the_account(
    api: Api, past: Past, elevenlabs: FakeElevenLabs
) -> None:
    """A webhook may name any conversation of the workspace, also one of another account: its agent must be ours."""
    mine, theirs = made_agent(api, api.account.key), made_agent(api, api.other.key)
    endpoint = past.endpoint()
    answers = []
    for agent_id in (theirs, "agent_of_nobody", mine):
        event = past.event({endpoint: "delivered"}, conversation_id=f"conv_{agent_id}")
        conversation(elevenlabs, f"conv_{agent_id}", key=KEY, agent_id=agent_id)
        answers.append(replayed(api, event, endpoint))
        assert past.kept(event) is (agent_id == mine)
    assert [refused(answer) for answer in answers[:2]] == [(410, "content_gone")] * 2
    assert answers[2].get_json()["answer"] == "refetched"


def made_agent(api: Api, key: str) -> str:
    """The voice agent of a new template of an account."""
    body = {"name": "Intake", "type": "conversation", "systemPrompt": "Ask."}
    made = api.post("/api/convagents/templates", body, key=key)
    assert made.status_code == 201, made.get_data(as_text=True)
    return str(made.get_json()["data"]["agentId"])


@pytest.mark.parametrize("is_labelled", [True, False])
def test_a_call_at_retell_must_carry_the_accounts_label(
    api: Api, past: Past, retell: FakeRetell, is_labelled: bool
) -> None:
    """With our key; every call that is begun here has it."""
    endpoint = past.endpoint()
    event = past.event({endpoint: "delivered"}, provider="retell", kind="call_analyzed", conversation_id="call_7")
    label = {ACCOUNT_LABEL: api.account.id if is_labelled else api.other.id}
    retell.calls["call_7"] = {"call_id": "call_7", "agent_id": "a", "metadata": label, "transcript": "Hello again."}
    answer = replayed(api, event, endpoint)
    if not is_labelled:
        assert refused(answer) == (410, "content_gone")
        return
    assert answer.get_json()["answer"] == "refetched"
    content = past.content(past.waiting(event)[endpoint])
    assert content.startswith(b'{"event":"call_analyzed","call":{"call_id": "call_7"')
    assert b"Hello again." in content


@pytest.mark.usefixtures("own_key", "impatient")
@pytest.mark.parametrize(
    ("provider", "said"),
    [
        (404, (410, "content_gone")),  # it was deleted there
        ({"conversation_id": "conv_another"}, (410, "content_gone")),
        ({"metadata": {"deletion_settings": {"deleted_transcript_at_time_unix_secs": 7}}}, (410, "content_gone")),
        ({"metadata": {"deletion_settings": {"deletion_time_unix_secs": 7}}}, (202, "refetched")),
        ({"agent_id": 7, "conversation_id": None}, (502, "provider_failed")),
        (403, (502, "provider_failed")),
        (422, (502, "provider_failed")),
        (503, (503, "provider_unavailable")),
    ],
)
def test_what_the_provider_says_decides(
    api: Api, past: Past, elevenlabs: FakeElevenLabs, provider: dict[str, Any] | int, said: tuple[int, str]
) -> None:
    """What it has deleted is gone; what it refuses is told apart from what it does not answer now."""
    endpoint = past.endpoint()
    event = past.event({endpoint: "delivered"}, conversation_id="conv_asked")
    if isinstance(provider, int):
        elevenlabs.fail_next(provider, times=3)
    else:
        conversation(elevenlabs, "conv_asked", **provider)
    answer = replayed(api, event, endpoint)
    assert (answer.status_code, answer.get_json().get("code") or answer.get_json()["answer"]) == said
    assert past.kept(event) is (said[0] == 202)


@pytest.mark.usefixtures("own_key")
@pytest.mark.parametrize(
    "of",
    [
        {"kind": "call_initiation_failure"},
        {"kind": "post_call_audio"},
        {"kind": "post_call_transcription", "livemode": False},
        {"provider": "retell", "kind": "call_ended"},
        {"provider": "retell", "kind": "transcript_updated"},
    ],
)
def test_only_what_the_api_tells_whole_is_asked_for(
    api: Api, past: Past, elevenlabs: FakeElevenLabs, retell: FakeRetell, of: dict[str, Any]
) -> None:
    """For other events, and for tests, no provider is called."""
    endpoint = past.endpoint()
    event = past.event({endpoint: "delivered"}, conversation_id="conv_other", **of)
    conversation(elevenlabs, "conv_other")
    assert refused(replayed(api, event, endpoint)) == (410, "content_gone")
    assert (elevenlabs.requests, retell.requests) == ([], [])


@pytest.mark.usefixtures("own_key")
def test_an_endpoint_that_wants_one_attempt_gets_no_other(api: Api, past: Past, elevenlabs: FakeElevenLabs) -> None:
    """Nor does one that is disabled."""
    once, disabled = past.endpoint(retentionHours=0), past.endpoint()
    event = past.event({once: "delivered", disabled: "delivered"}, conversation_id="conv_once")
    conversation(elevenlabs, "conv_once")
    api.post(f"/api/v1/endpoints/{disabled}/disable")
    assert refused(replayed(api, event, once)) == (410, "content_gone")
    assert refused(replayed(api, event, disabled)) == (409, "endpoint_disabled")
    assert elevenlabs.requests == []


@pytest.mark.usefixtures("own_key")
def test_a_bill_that_is_still_due_keeps_what_it_needs(api: Api, past: Past, elevenlabs: FakeElevenLabs) -> None:
    """The call is charged as it ended, once, whatever came back meanwhile."""
    endpoint = past.endpoint()
    card = {"perMinute": "0.10"}
    path = f"/api/v1/accounts/{api.account.id}/rate-cards"
    assert api.post(path, card, key=api.operator_key).status_code == 201
    past.event({endpoint: "delivered"}, kind="conversation_began", conversation_id="conv_due")
    event = past.event({endpoint: "delivered"}, conversation_id="conv_due", is_charged=False)
    conversation(elevenlabs, "conv_due", metadata={"call_duration_secs": 9_999})
    assert replayed(api, event, endpoint).get_json()["answer"] == "refetched"
    assert past.charges() == []
    past.end(event, {endpoint: "delivered"})
    past.record()
    assert [row["billed_seconds"] for row in past.charges()] == [91]


@pytest.mark.usefixtures("own_key")
def test_a_quota_that_is_full_takes_nothing_back(api: Api, past: Past, elevenlabs: FakeElevenLabs) -> None:
    """As it takes nothing new."""
    endpoint = past.endpoint()
    event = past.event({endpoint: "delivered"}, conversation_id="conv_large")
    conversation(elevenlabs, "conv_large")
    with api.database.begin() as connection:
        mine = accounts.c.id == api.account.id
        connection.execute(accounts.update().where(mine).values(quota_bytes=100))
    assert refused(replayed(api, event, endpoint)) == (503, "over_quota")


@pytest.mark.usefixtures("own_key")
def test_a_request_fetches_some_ten_and_says_where_to_go_on(api: Api, past: Past, elevenlabs: FakeElevenLabs) -> None:
    """However many it was to look at."""
    endpoint = past.endpoint()
    for number in range(14):
        past.event({endpoint: "delivered"}, conversation_id=f"conv_{number}", hours_ago=20 - number)
        conversation(elevenlabs, f"conv_{number}")
    wish = {"since": "2026-01-01T00:00:00Z", "status": "delivered", "limit": 1000}
    first = api.post("/api/v1/deliveries/replay", wish).get_json()
    assert first["counts"] == {"refetched": 10}
    second = api.post("/api/v1/deliveries/replay", wish | {"cursor": first["nextCursor"]}).get_json()
    assert (second["counts"], second["nextCursor"]) == ({"refetched": 4}, None)


@pytest.mark.usefixtures("own_key", "impatient")
def test_a_provider_that_does_not_answer_is_asked_once_in_a_request(
    api: Api, past: Past, elevenlabs: FakeElevenLabs
) -> None:
    """Its other events are told the same without waiting for it again."""
    endpoint = past.endpoint()
    for number in range(3):
        past.event({endpoint: "delivered"}, conversation_id=f"conv_silent_{number}")
    elevenlabs.fail_next(503, times=100)
    wish = {"since": "2026-01-01T00:00:00Z", "status": "delivered"}
    assert api.post("/api/v1/deliveries/replay", wish).get_json()["counts"] == {"provider_unavailable": 3}
    assert len(elevenlabs.requests) == 3  # the three tries of one question


@pytest.mark.usefixtures("own_key")
def test_an_erased_session_is_not_fetched_again(api: Api, past: Past, elevenlabs: FakeElevenLabs) -> None:
    """Nobody asks the provider."""
    endpoint = past.endpoint()
    event = past.event({endpoint: "delivered"}, conversation_id="conv_erased")
    conversation(elevenlabs, "conv_erased")
    assert api.delete(session_path(api, event, endpoint)).status_code == 200
    assert refused(replayed(api, event, endpoint)) == (410, "content_erased")
    assert elevenlabs.requests == []


@pytest.mark.usefixtures("own_key")
def test_nor_are_events_that_did_not_name_it(api: Api, past: Past, elevenlabs: FakeElevenLabs) -> None:
    """They went under another id, and have its conversation."""
    endpoint = past.endpoint()
    with api.database.begin() as connection:
        made = sessions.create(connection, account_id=api.account.id, provider="elevenlabs")
    past.event({endpoint: "delivered"}, conversation_id="conv_unnamed", session_id=made.id)
    event = past.event({endpoint: "delivered"}, conversation_id="conv_unnamed")
    assert api.delete(f"/api/v1/sessions/{made.id}/content").status_code == 200
    assert refused(replayed(api, event, endpoint)) == (410, "content_erased")
    assert elevenlabs.requests == []


@pytest.mark.usefixtures("own_key")
def test_an_erasure_in_the_meantime_wins(api: Api, past: Past, elevenlabs: FakeElevenLabs) -> None:
    """It comes while the provider is writing its answer: nothing is put back."""
    endpoint = past.endpoint()
    event = past.event({endpoint: "delivered"}, conversation_id="conv_race")
    conversation(elevenlabs, "conv_race")
    path, erased = session_path(api, event, endpoint), []
    client = api.client.application.test_client()
    headers = {"Authorization": f"Bearer {api.account.key}"}
    elevenlabs.before = lambda _: erased.append(client.delete(path, headers=headers).status_code)
    assert refused(replayed(api, event, endpoint)) == (410, "content_erased")
    assert erased == [200]
    assert not past.kept(event)
    assert past.waiting(event) == {}


def session_path(api: Api, event: str, endpoint: str) -> str:
    """Where the content of an event's session is erased."""
    session_id = api.get(f"/api/v1/deliveries/{event}/{endpoint}").get_json()["sessionId"]
    return f"/api/v1/sessions/{session_id}/content"
