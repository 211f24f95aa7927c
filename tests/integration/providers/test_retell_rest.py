"""Our adapter of Retell's REST API, and the official client, against the same fake: both understand it alike."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from retell import Retell as Official

from relay.errors import ProviderFailed, ProviderUnavailable
from relay.providers.rest.retell import Retell
from relay.providers.retell import ACCOUNT_LABEL
from relay.settings import ProviderAccess
from tests.fakes.retell import KEY, FakeRetell


@pytest.fixture
def fake() -> Iterator[FakeRetell]:
    """Retell."""
    with FakeRetell() as fake:
        yield fake


@pytest.fixture
def ours(fake: FakeRetell) -> Retell:
    """Our adapter, for an account."""
    return Retell(ProviderAccess(base_url=fake.url, api_key=KEY), account_id="acc_1")


def test_a_web_call_begins_with_its_label(fake: FakeRetell, ours: Retell) -> None:
    """Metadata and variables as they were given, and whose it is, which no metadata can change."""
    call = ours.create_web_call(
        "agent_1", metadata={"canary_session_id": "7", ACCOUNT_LABEL: "acc_2"}, dynamic_variables={"name": "Ada"}
    )
    kept = fake.calls[call.call_id]
    assert (kept["agent_id"], kept["retell_llm_dynamic_variables"]) == ("agent_1", {"name": "Ada"})
    assert kept["metadata"] == {"canary_session_id": "7", ACCOUNT_LABEL: "acc_1"}
    assert call.access_token.startswith("token_")
    assert call.access_token not in repr(call)


def test_a_call_is_given_as_it_was_written(fake: FakeRetell, ours: Retell) -> None:
    """The bytes: they are to be delivered. The official client reads the same."""
    made = ours.create_web_call("agent_1")
    fake.calls[made.call_id] |= {"transcript": "Agent: hi", "access_token": "t"}
    assert json.loads(ours.call(made.call_id))["transcript"] == "Agent: hi"
    with Official(api_key=KEY, base_url=fake.url) as official:
        assert official.call.retrieve(made.call_id).transcript == "Agent: hi"


@pytest.mark.parametrize("call_id", ["unheard", "..", "a/../b", "%2e%2e", "a?b=c"])
def test_an_id_is_one_part_of_the_path_whatever_it_holds(fake: FakeRetell, ours: Retell, call_id: str) -> None:
    """No other call and no other route is reached by it."""
    with pytest.raises(ProviderFailed) as caught:
        ours.call(call_id)
    assert caught.value.provider_status == 404
    assert all(seen.path.removeprefix("/v2/get-call/").count("/") == 0 for seen in fake.requests)


def test_calls_are_listed_without_what_was_said(fake: FakeRetell, ours: Retell) -> None:
    """From a moment on, oldest first, a page at a time: ids, times, durations and statuses."""
    for number in range(5):
        fake.calls[f"call_{number}"] = {
            "call_id": f"call_{number}",
            "agent_id": "agent_1",
            "call_status": "ended",
            "start_timestamp": 1000 + number,
            "duration_ms": 10,
            "call_cost": {"combined_cost": 7.05},
            "transcript": "Agent: hi",
            "from_number": "+12137771234",
        }
    first = ours.calls(since_ms=1001, limit=3)
    assert [one.call.conversation_id for one in first.items] == ["call_1", "call_2", "call_3"]
    ending = first.items[0].call.ending
    assert ending is not None
    assert (ending.started_at_ms, ending.ended_at_ms, ending.duration_seconds) == (1001, None, "0.01")
    assert (ending.provider_cost_usd, first.items[0].is_over) == ("0.0705", True)
    assert "Agent" not in repr(first)
    last = ours.calls(since_ms=1001, limit=3, pagination_key=first.pagination_key)
    assert ([one.call.conversation_id for one in last.items], last.pagination_key) == (["call_4"], None)
    within = ours.calls(since_ms=1001, until_ms=1002)
    assert [one.call.conversation_id for one in within.items] == ["call_1", "call_2"]


def test_a_call_that_cannot_be_read_is_left_out_of_the_list(fake: FakeRetell, ours: Retell) -> None:
    """It is nobody's; whatever its metadata are, the others are listed."""
    good = {"agent_id": "agent_1", "call_status": "ended", "start_timestamp": 1}
    fake.calls["odd"] = good | {"call_id": 5}
    fake.calls["free"] = good | {"call_id": "free", "metadata": ["theirs"], "call_cost": {"combined_cost": "NaN"}}
    (listed,) = ours.calls(since_ms=0).items
    assert listed.call.ending is not None
    assert (listed.call.conversation_id, listed.call.ending.provider_cost_usd) == ("free", None)


def test_errors_are_told_in_our_words(fake: FakeRetell, ours: Retell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retell's own text quotes what was sent to it; an answer in another form is no answer."""
    fake.fail_next(422)
    with pytest.raises(ProviderFailed) as refused:
        ours.create_web_call("agent_of_mine")
    assert "agent_of_mine" not in str(refused.value)
    fake.fail_next(500)
    with pytest.raises(ProviderUnavailable):
        ours.create_web_call("agent_1")
    monkeypatch.setattr(fake, "_page", lambda _: {"items": "none", "has_more": False})
    with pytest.raises(ProviderFailed, match="something else than it documents"):
        ours.calls(since_ms=0)


def test_a_web_call_is_opened_for_either_of_retells_web_clients(fake: FakeRetell, ours: Retell) -> None:
    """3.x is told how to connect, 2.x joins a room; each token is good for its own alone. Nothing of it is shown."""
    newer = ours.create_web_call("agent_1", more={"agent_version": "latest"})
    assert (newer.transport, newer.expires_at) == ("gateway", 1_800_000_000_000)
    assert [server.credential for server in newer.ice_servers] == [None, "a-secret"]
    assert "secret" not in repr(newer.ice_servers)
    assert fake.requests[-1].body["agent_version"] == "latest"
    older = ours.create_web_call("agent_1", version=2)
    assert (older.transport, older.ice_servers, older.agent_version) == (None, (), 0)
    assert [seen.path for seen in fake.requests] == ["/v3/create-web-call", "/v2/create-web-call"]
