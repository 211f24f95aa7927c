"""Sessions over HTTP: what they lasted and cost, and the erasure of what was said in them."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text

from relay.erasure import erase
from relay.errors import Unavailable
from relay.outbox import Settlement, Verb, keys
from relay.outbox.outcomes import DeliveryStatus
from relay.store import sessions
from tests.integration.api.conftest import Api
from tests.integration.api.past import Past

LIST = "/api/v1/sessions"


@pytest.fixture
def past(api: Api) -> Past:
    """What has happened to the account, which pays 0.10 USD a minute."""
    path = f"/api/v1/accounts/{api.account.id}/rate-cards"
    assert api.post(path, {"perMinute": "0.10"}, key=api.operator_key).status_code == 201
    return Past(api)


def session_of(api: Api, event: str, endpoint: str) -> int:
    """The session of an event."""
    return int(api.get(f"/api/v1/deliveries/{event}/{endpoint}").get_json()["sessionId"])


def status_of(api: Api, event: str, endpoint: str) -> tuple[str, str | None, int]:
    """What the records say of a delivery: status, code and attempts."""
    shown = api.get(f"/api/v1/deliveries/{event}/{endpoint}").get_json()
    return shown["status"], shown["code"], shown["attempts"]


def test_a_session_shows_what_it_lasted_and_cost(api: Api, past: Past) -> None:
    """Money as text in its currency, seconds as numbers, and where its deliveries are."""
    endpoint = past.endpoint()
    event = past.event({endpoint: "delivered"}, conversation_id="conv_shown")
    session_id = session_of(api, event, endpoint)
    shown = api.get(f"{LIST}/{session_id}").get_json()
    assert (shown["id"], shown["conversationId"], shown["status"]) == (session_id, "conv_shown", "completed")
    assert (shown["durationSeconds"], shown["billedSeconds"]) == (91, 91)
    assert (Decimal(shown["cost"]), shown["currency"], shown["unratedReason"]) == (Decimal("0.151667"), "USD", None)
    assert (shown["failureCode"], shown["contentErasedAt"]) == (None, None)
    assert api.get(shown["deliveries"]).get_json()["data"][0]["eventId"] == event
    assert "accountId" not in shown


def test_lists_sessions_newest_first_in_pages(api: Api, past: Past) -> None:
    """Those of a status or a template; nobody else's."""
    endpoint = past.endpoint()
    for number in range(3):
        past.event({endpoint: "delivered"}, conversation_id=f"conv_{number}")
    with api.database.begin() as connection:
        pending = sessions.create(connection, account_id=api.account.id, provider="retell").id
        sessions.create(connection, account_id=api.other.id, provider="retell")
    first = api.get(LIST, query_string={"limit": 3}).get_json()
    assert [row["conversationId"] for row in first["data"]] == [None, "conv_2", "conv_1"]
    last = api.get(LIST, query_string={"limit": 3, "cursor": first["nextCursor"]}).get_json()
    assert ([row["conversationId"] for row in last["data"]], last["nextCursor"]) == (["conv_0"], None)
    [found] = api.get(LIST, query_string={"status": "pending"}).get_json()["data"]
    assert found["id"] == pending
    assert api.get(LIST, query_string={"templateId": 7}).get_json()["data"] == []


@pytest.mark.parametrize(("unrated", "found"), [("true", ["conv_open"]), ("false", ["conv_charged"])])
def test_lists_what_could_not_be_charged(api: Api, past: Past, unrated: str, found: list[str]) -> None:
    """Or the others."""
    endpoint = past.endpoint()
    for name in ("conv_open", "conv_charged"):
        past.event({endpoint: "delivered"}, conversation_id=name)
    with api.database.begin() as connection:
        open_one = (
            "UPDATE sessions SET cost = NULL, unrated_reason = 'no_rate_card' WHERE conversation_id = 'conv_open'"
        )
        connection.execute(text(open_one))
    listed = api.get(f"{LIST}?unrated={unrated}").get_json()["data"]
    assert [one["conversationId"] for one in listed] == found


def test_the_session_of_another_account_is_not_there(api: Api, past: Past) -> None:
    """Neither shown nor erased; a key that may only read erases nothing."""
    foreign = Past(api, api.other)
    endpoint = foreign.endpoint()
    event = foreign.event({endpoint: "dead"})
    shown = api.get(f"/api/v1/deliveries/{event}/{endpoint}", key=api.other.key).get_json()
    path = f"{LIST}/{shown['sessionId']}"
    assert api.get(path).status_code == 404
    assert api.delete(f"{path}/content").status_code == 404
    assert api.delete(f"{path}/content", key=api.other.reading_key).status_code == 403
    assert foreign.kept(event)
    assert foreign.audited() == []
    assert api.get(path, key=api.other.key).get_json()["contentErasedAt"] is None


def test_erasure_shreds_what_waits_and_what_is_kept(api: Api, past: Past) -> None:
    """Retries end as erased, content of dead deliveries goes, the charge stays; who did it is in the trail."""
    one, two, three = (past.endpoint() for _ in range(3))
    event = past.event({one: "pending", two: "dead", three: None}, conversation_id="conv_erased")
    other = past.event({one: "delivered"}, conversation_id="conv_erased", kind="post_call_audio")
    neighbour = past.event({one: "dead"})
    session_id, charged = session_of(api, event, one), past.charges()
    answer = api.delete(f"{LIST}/{session_id}/content")
    assert answer.status_code == 200
    assert answer.get_json() == {"sessionId": session_id, "shredded": 1, "ended": 2, "inFlight": 0}
    assert not past.kept(event)
    assert past.kept(neighbour)
    assert past.waiting(event) == {}
    past.record()
    assert status_of(api, event, one) == ("dead", "erased", 1)
    assert status_of(api, event, two) == ("dead", "http_500", 1)
    assert status_of(api, event, three) == ("dead", "erased", 0)
    assert status_of(api, other, one) == ("delivered", None, 1)
    assert past.charges() == charged != []
    assert past.audited() == [(api.account.key_id, "session.content_erased", str(session_id))]
    assert api.get(f"{LIST}/{session_id}").get_json()["contentErasedAt"] is not None
    refused = api.post(f"/api/v1/deliveries/{event}/{two}/replay")
    assert (refused.status_code, refused.get_json()["code"]) == (410, "content_erased")


def test_erasing_again_finds_nothing_and_is_fine(api: Api, past: Past) -> None:
    """What came since is shredded then."""
    endpoint = past.endpoint()
    event = past.event({endpoint: None}, conversation_id="conv_twice")
    path = f"{LIST}/{session_of(api, event, endpoint)}/content"
    assert api.delete(path).get_json()["shredded"] == 1
    past.record()
    assert api.delete(path).get_json() | {"sessionId": 0} == {
        "sessionId": 0, "shredded": 0, "ended": 0, "inFlight": 0,
    }  # fmt: skip
    later = past.event({endpoint: None}, conversation_id="conv_twice", kind="post_call_audio")
    assert past.kept(later)
    assert api.delete(path).get_json()["shredded"] == 1
    assert not past.kept(later)


@pytest.mark.parametrize("verb", [Verb.RETRY, Verb.DONE])
def test_an_attempt_that_is_under_way_is_the_last(api: Api, past: Past, verb: Verb) -> None:
    """It ends as it ends; if it failed, there is no other."""
    endpoint = past.endpoint()
    event = past.event({endpoint: None})
    path = f"{LIST}/{session_of(api, event, endpoint)}/content"
    claims = {claim.event_id: claim for claim in past.claims()}
    assert api.delete(path).get_json()["inFlight"] == 1
    past.outbox.settle("relay", [Settlement(claim, Verb.RELEASE) for key, claim in claims.items() if key != event])
    status: DeliveryStatus = "delivered" if verb is Verb.DONE else "pending"
    past.outbox.settle("relay", [past.settlement(claims[event], status)])
    past.record()
    ended = ("delivered", None, 1) if verb is Verb.DONE else ("dead", "erased", 1)
    assert status_of(api, event, endpoint) == ended
    assert past.waiting(event) == {}
    assert not api.redis.exists(keys.facts(event), keys.sealed(event))


@pytest.mark.parametrize("by", ["its own id", "the id of its conversation", "the id that an event named"])
def test_every_event_of_the_session_is_found(api: Api, past: Past, by: str) -> None:
    """Whichever way it belongs: some name the session, some only the conversation, some a session that was taken."""
    endpoint = past.endpoint()
    with api.database.begin() as connection:
        made = sessions.create(connection, account_id=api.account.id, provider="elevenlabs")
    named = past.event({endpoint: "delivered"}, conversation_id=f"conv {by}", session_id=made.id)
    if by == "its own id":
        event = past.event({endpoint: None}, conversation_id="conv_else", session_id=made.id)
    elif by == "the id of its conversation":
        event = past.event({endpoint: None}, conversation_id=f"conv {by}", kind="post_call_audio")
    else:
        event = past.event({endpoint: None}, conversation_id=f"conv {by}", session_id=7, kind="post_call_audio")
    assert api.get(f"{LIST}/{made.id}").get_json()["conversationId"] == f"conv {by}"
    assert api.delete(f"{LIST}/{made.id}/content").get_json()["shredded"] == 1
    assert not past.kept(event)
    assert not past.kept(named)


def test_what_was_accepted_before_is_waited_for(api: Api, past: Past) -> None:
    """Its record comes a moment later: it is shredded as well."""
    endpoint = past.endpoint()
    first = past.event({endpoint: "delivered"}, conversation_id="conv_late")
    session_id = session_of(api, first, endpoint)
    event = past.accepted({endpoint: None}, conversation_id="conv_late", kind="post_call_audio")
    recorder = threading.Timer(0.3, past.record)
    recorder.start()
    answer = api.delete(f"{LIST}/{session_id}/content")
    recorder.join()
    assert answer.get_json()["shredded"] == 1
    assert not past.kept(event)


def test_nothing_is_promised_while_the_records_lag(api: Api, past: Past) -> None:
    """Whoever waits too long is told to come again, and nothing has changed."""
    endpoint = past.endpoint()
    first = past.event({endpoint: "dead"}, conversation_id="conv_lagging")
    session_id = session_of(api, first, endpoint)
    past.accepted({endpoint: None}, conversation_id="conv_lagging", kind="post_call_audio")
    with pytest.raises(Unavailable) as caught:
        erase(
            api.database, past.outbox, api.redis, account_id=api.account.id, session_id=session_id, actor="cli",
            patience_seconds=0.05,
        )  # fmt: skip
    assert caught.value.retry_after_seconds
    assert past.kept(first)
    assert past.audited() == []
    past.record()


def test_nothing_that_was_said_is_left_in_redis(api: Api, past: Past) -> None:
    """Not even sealed: only the marker that knows the provider's resend."""
    endpoint = past.endpoint()
    event = past.event({endpoint: "pending"})
    assert any(event in place for place, _ in places(api))
    api.delete(f"{LIST}/{session_of(api, event, endpoint)}/content")
    past.record()
    assert {place for place, _ in places(api) if event in place} == {keys.event(event)}
    assert api.redis.get(keys.event(event)) == b"1"


def places(api: Api) -> list[tuple[str, Any]]:
    """Names and values of all that Redis holds."""
    return [(name.decode(), api.redis.dump(name)) for name in api.redis.scan_iter()]
