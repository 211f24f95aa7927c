"""Deliveries over HTTP: what is listed, what an attempt shows, and what becomes of the wish to replay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from relay.api.core import cursors
from relay.outbox import keys
from tests.integration.api.conftest import Api
from tests.integration.api.past import SAID, Past

LIST = "/api/v1/deliveries"


@pytest.fixture
def past(api: Api) -> Past:
    """What has happened to the account."""
    return Past(api)


def listed(api: Api, **query: Any) -> list[tuple[str, str]]:
    """Event and endpoint of what a list shows."""
    answer = api.get(LIST, query_string=query)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [(row["eventId"], row["endpointId"]) for row in answer.get_json()["data"]]


def pages(api: Api, **query: Any) -> Iterator[list[str]]:
    """The events of each page."""
    cursor: dict[str, str] = {}
    while True:
        body = api.get(LIST, query_string=query | cursor).get_json()
        yield [row["eventId"] for row in body["data"]]
        if body["nextCursor"] is None:
            return
        cursor = {"cursor": body["nextCursor"]}


def test_lists_what_was_asked_for_newest_first(api: Api, past: Past) -> None:
    """Each filter narrows; nothing of another account is there."""
    one, two = past.endpoint(), past.endpoint()
    old = past.event({one: "delivered", two: "dead"}, hours_ago=2, session_id=41)
    new = past.event({one: "dead"}, hours_ago=1, session_id=42)
    foreign = Past(api, api.other)
    foreign.event({foreign.endpoint(): "dead"}, session_id=42)
    since = api.get(f"{LIST}/{new}/{one}").get_json()["acceptedAt"]
    assert listed(api)[0] == (new, one)
    assert set(listed(api)) == {(new, one), (old, one), (old, two)}
    assert set(listed(api, status="dead")) == {(new, one), (old, two)}
    assert listed(api, endpointId=two) == [(old, two)]
    assert listed(api, eventId=new) == [(new, one)]
    assert listed(api, sessionId=42) == [(new, one)]
    assert listed(api, since=since) == [(new, one)]
    assert listed(api, sessionId=43) == []


def test_pages_tell_where_the_next_one_begins(api: Api, past: Past) -> None:
    """Every delivery is on one of them, once."""
    endpoint = past.endpoint()
    events = [past.event({endpoint: "delivered"}, hours_ago=hours) for hours in range(5)]
    assert list(pages(api, limit=2)) == [events[:2], events[2:4], events[4:]]
    assert list(pages(api, limit=5)) == [events]


@pytest.mark.parametrize(
    "place",
    [
        "junk",
        ["2026-01-01T00:00:00Z", "evt_\x00", "ep_1"],
        ["2026-01-01T00:00:00", "evt_1", "ep_1"],
        ["0001-01-01T00:00:00+14:00", "evt_1", "ep_1"],
        [1, 2, 3],
    ],
)
def test_a_cursor_that_somebody_made_up_is_refused(api: Api, place: Any) -> None:
    """By name; it never reaches the database."""
    answer = api.get(LIST, query_string={"cursor": cursors.written(place)})
    assert (answer.status_code, answer.get_json()["code"]) == (400, "cursor_invalid")


def test_an_attempt_shows_what_tenants_may_know(api: Api, past: Past) -> None:
    """Its code, never the operator's detail; nothing tells a filtered address from a closed one."""
    one, two = past.endpoint(), past.endpoint()
    event = past.event({one: "pending"}, code="http_500")
    unreachable = past.event({two: "pending"}, code="unreachable")
    shown = api.get(f"{LIST}/{event}/{one}").get_json()
    assert (shown["status"], shown["code"], shown["attempts"]) == ("pending", "http_500", 1)
    assert (shown["type"], shown["livemode"]) == ("elevenlabs.post_call_transcription", True)
    [attempt] = shown["history"]
    assert set(attempt) == {"number", "at", "httpStatus", "code", "durationMs", "responseBytes"}
    assert (attempt["httpStatus"], attempt["code"], attempt["durationMs"]) == (500, "http_500", 42)
    text = api.get(f"{LIST}/{unreachable}/{two}").get_data(as_text=True)
    assert '"durationMs":null' in text
    assert "connect_failed" not in text


def test_what_belongs_to_nobody_here_is_not_found(api: Api, past: Past) -> None:
    """Neither shown nor replayed, and nothing happens; an id that is none is no id."""
    foreign = Past(api, api.other)
    endpoint = foreign.endpoint()
    event = foreign.event({endpoint: "dead"})
    path = f"{LIST}/{event}/{endpoint}"
    assert api.get(path).status_code == 404
    assert api.post(f"{path}/replay").status_code == 404
    assert foreign.waiting(event) == {}
    assert api.get(f"{LIST}/evt_1/ep_1").status_code == 404
    assert api.get(LIST, query_string={"endpointId": "ep_1"}).status_code == 400


def test_a_dead_delivery_goes_again(api: Api, past: Past) -> None:
    """With its bytes and the attempts it had; a second wish finds it pending. Who did it is in the trail."""
    endpoint = past.endpoint()
    event = past.event({endpoint: "dead"})
    path = f"{LIST}/{event}/{endpoint}/replay"
    first = api.post(path)
    assert first.status_code == 202
    assert first.get_json() == {
        "eventId": event, "endpointId": endpoint, "status": "dead", "attempts": 1, "answer": "replayed",
    }  # fmt: skip
    claim = past.waiting(event)[endpoint]
    assert (claim.attempts, past.content(claim)) == (1, SAID)
    assert api.post(path).get_json()["answer"] == "pending"
    assert past.audited() == [(api.account.key_id, "delivery.replayed", f"{event}/{endpoint}")]


def test_a_key_that_may_only_read_replays_nothing(api: Api, past: Past) -> None:
    """It may look."""
    endpoint = past.endpoint()
    event = past.event({endpoint: "dead"})
    path = f"{LIST}/{event}/{endpoint}"
    assert api.get(path, key=api.account.reading_key).status_code == 200
    assert api.post(f"{path}/replay", key=api.account.reading_key).status_code == 403
    assert api.post(f"{LIST}/replay", {"since": "2026-01-01T00:00:00Z"}, key=api.account.reading_key).status_code == 403
    assert past.waiting(event) == {}


def test_says_why_a_delivery_does_not_go_again(api: Api, past: Past) -> None:
    """In a status and a code; the trail has nothing of it."""
    disabled, gone, delivered, lost = (past.endpoint() for _ in range(4))
    event = past.event({disabled: "dead", gone: "dead"})
    other = past.event({delivered: "delivered"})
    third = past.event({lost: "content_lost"})
    assert api.post(f"/api/v1/endpoints/{disabled}/disable").status_code == 200
    api.redis.hset(keys.gate(gone), "state", "gone")
    answers = [
        api.post(f"{LIST}/{event_id}/{endpoint}/replay")
        for event_id, endpoint in ((event, disabled), (event, gone), (other, delivered), (third, lost))
    ]
    assert [(answer.status_code, answer.get_json()["code"]) for answer in answers] == [
        (409, "endpoint_disabled"),
        (409, "endpoint_gone"),
        (410, "content_gone"),
        (410, "content_lost"),
    ]
    assert past.audited() == []


def test_records_that_lag_behind_are_not_believed(api: Api, past: Past) -> None:
    """It was replayed and delivered a moment ago, and Postgres does not know: the same wish sends nothing twice."""
    one, two = past.endpoint(), past.endpoint()
    event = past.event({one: "dead", two: "dead"})
    path = f"{LIST}/{event}/{one}/replay"
    assert api.post(path).status_code == 202
    past.end(event, {one: "delivered"})
    answer = api.post(path)
    assert (answer.status_code, answer.get_json()["code"]) == (503, "records_behind")
    assert answer.headers["Retry-After"]
    past.record()
    assert api.post(path).get_json()["answer"] == "replayed"


def test_all_that_died_since_a_time_goes_again_in_bounded_steps(api: Api, past: Past) -> None:
    """Each request looks at no more than it was told to, and says where to go on."""
    one, two = past.endpoint(), past.endpoint()
    events = [past.event({one: "dead", two: "delivered"}, hours_ago=hours) for hours in (30, 3, 2, 1)]
    since = api.get(f"{LIST}/{events[1]}/{one}").get_json()["acceptedAt"]
    first = api.post(f"{LIST}/replay", {"since": since, "limit": 2})
    assert first.status_code == 202
    told = first.get_json()
    assert (told["lookedAt"], told["counts"]) == (2, {"replayed": 2})
    assert list(past.waiting(events[3])) == []
    last = api.post(f"{LIST}/replay", {"since": since, "limit": 2, "cursor": told["nextCursor"]}).get_json()
    assert last == {"lookedAt": 1, "counts": {"replayed": 1}, "nextCursor": None}
    assert [list(past.waiting(event)) for event in events] == [[], [one], [one], [one]]
    again = api.post(f"{LIST}/replay", {"since": since}).get_json()
    assert again == {"lookedAt": 3, "counts": {"pending": 3}, "nextCursor": None}
    assert len(past.audited()) == 3


def test_one_endpoint_and_one_status_may_be_asked_for(api: Api, past: Past) -> None:
    """What was delivered and has no content here any more is counted as such."""
    one, two = past.endpoint(), past.endpoint()
    event = past.event({one: "dead", two: "dead"})
    past.event({two: "delivered"})
    since = {"since": "2026-01-01T00:00:00Z"}
    assert api.post(f"{LIST}/replay", since | {"endpointId": two}).get_json()["counts"] == {"replayed": 1}
    assert list(past.waiting(event)) == [two]
    assert api.post(f"{LIST}/replay", since | {"status": "delivered"}).get_json()["counts"] == {"content_gone": 1}


@pytest.mark.parametrize(
    "body", [{}, {"since": "yesterday"}, {"since": "2026-01-01T00:00:00Z", "status": "pending"},
             {"since": "2026-01-01T00:00:00Z", "limit": 0}, {"since": "2026-01-01T00:00:00Z", "limit": 1001}]
)  # fmt: skip
def test_a_wish_that_is_none_is_refused(api: Api, body: dict[str, Any]) -> None:
    """Before anything is looked at."""
    assert api.post(f"{LIST}/replay", body).status_code == 400
