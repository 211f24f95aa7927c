"""Canonical's `POST /api/v1/call` as its documentation shows it: the request, the answer, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.test import TestResponse

from relay.calls import event_id
from relay.errors import Unavailable
from relay.outbox import Outbox, Room, keys
from relay.outbox.outcomes import decode_facts
from relay.queues import RECORDINGS
from relay.recordings import request
from relay.sealing import KeyRing
from tests.integration.api.conftest import Api

PATH = "/api/v1/call"
LOCATION = "https://recordings.example.com/call.wav?token=hush"
EXAMPLE: dict[str, Any] = {
    "assistant": {
        "id": "UNIQUE_ID_FOR_THE_ASSISTANT",
        "speaksFirst": True,
        "description": "Outbound Sales Agent",
    },
    "location": LOCATION,
    "callId": "25d739ee-413d-4159-b6a6-35b9da9bcee1",
}


def hand_in(api: Api, body: Any, *, key: str | None = None) -> TestResponse:
    """POST with a key where Canonical's clients put it."""
    return api.post(PATH, body, key="", headers={"X-Canonical-Api-Key": api.account.key if key is None else key})


def event_of(api: Api, call_id: str) -> str:
    """The id of the event that a call becomes."""
    return event_id(api.account.id, "canonical", request.SCOPE, ("call", call_id))


def test_the_documented_request_gets_the_documented_answer(api: Api) -> None:
    """200 and the caller's own id, nothing else; the type is JSON."""
    answer = hand_in(api, EXAMPLE)
    assert (answer.status_code, answer.json) == (200, {"callId": EXAMPLE["callId"]})
    assert answer.content_type == "application/json"


def test_the_call_waits_sealed_in_the_outbox(api: Api) -> None:
    """One unit of its account in the lane; facts in the clear, the address and the description sealed with the rest."""
    hand_in(api, EXAMPLE)
    event = event_of(api, EXAMPLE["callId"])
    sealed = api.redis.get(keys.sealed(event))
    assert isinstance(sealed, bytes)
    assert b"hush" not in sealed
    outbox = Outbox(api.redis)
    claims = outbox.claim(RECORDINGS, Room(50), alone=False, content=True)
    (claim,) = [unit for unit in claims.units if unit.event_id == event]
    facts = decode_facts(claim.facts, event_id=event, account_id=api.account.id)
    assert (claim.key, facts.call.type, facts.call.conversation_id, facts.call.agent_id) == (
        api.account.id, "canonical.call", EXAMPLE["callId"], "UNIQUE_ID_FOR_THE_ASSISTANT",
    )  # fmt: skip
    assert b"hush" not in claim.facts
    assert b"Outbound" not in claim.facts
    handed_in = request.opened(KeyRing(api.settings.keys), sealed, event_id=event, account_id=api.account.id)
    assert handed_in.location == LOCATION
    assert handed_in.assistant.description == "Outbound Sales Agent"


def test_the_same_call_again_is_the_same_call(api: Api) -> None:
    """The same answer, also with another address: one unit, whatever is sent."""
    before = Outbox(api.redis).audit(RECORDINGS).accepted
    answers = [hand_in(api, EXAMPLE | {"location": f"{LOCATION}&take={take}"}) for take in (1, 1, 2)]
    assert [(answer.status_code, answer.json) for answer in answers] == [(200, {"callId": EXAMPLE["callId"]})] * 3
    assert Outbox(api.redis).audit(RECORDINGS).accepted == before + 1


def test_one_call_id_of_two_accounts_is_two_calls(api: Api) -> None:
    """Ids are the callers' own."""
    before = Outbox(api.redis).audit(RECORDINGS).accepted
    assert [hand_in(api, EXAMPLE, key=key).status_code for key in (api.account.key, api.other.key)] == [200, 200]
    assert Outbox(api.redis).audit(RECORDINGS).accepted == before + 2


def test_what_the_schema_does_not_name_is_let_through(api: Api) -> None:
    """Canonical's schema closes neither object, so that a client may send more than we know; it is not kept."""
    more = EXAMPLE | {"assistant": EXAMPLE["assistant"] | {"voice": "x"}, "callId": "more", "tags": ["a"]}
    assert hand_in(api, more).status_code == 200
    sealed = api.redis.get(keys.sealed(event_of(api, "more")))
    assert isinstance(sealed, bytes)
    handed_in = request.opened(
        KeyRing(api.settings.keys), sealed, event_id=event_of(api, "more"), account_id=api.account.id
    )
    assert b"tags" not in handed_in.content().reveal()


def without(*path: str) -> dict[str, Any]:
    """The example without one member."""
    body = EXAMPLE | {"assistant": dict(EXAMPLE["assistant"])}
    inner = body
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return body


def having(**changes: Any) -> dict[str, Any]:
    """The example with other members."""
    return EXAMPLE | changes


ASSISTANT: dict[str, Any] = EXAMPLE["assistant"]


@pytest.mark.parametrize(
    ("body", "code", "named"),
    [
        (without("assistant"), "validation_error", "assistant: is required"),
        (without("assistant", "id"), "validation_error", "assistant.id: is required"),
        (without("assistant", "speaksFirst"), "validation_error", "assistant.speaksFirst: is required"),
        (without("location"), "validation_error", "location: is required"),
        (without("callId"), "validation_error", "callId: is required"),
        ({}, "validation_error", "assistant: is required; location: is required; callId: is required"),
        ([EXAMPLE], "validation_error", "must be a JSON object"),
        (having(assistant="UNIQUE_ID"), "validation_error", "assistant: must be a JSON object"),
        (having(assistant=ASSISTANT | {"speaksFirst": "yes"}), "validation_error", "assistant.speaksFirst: "),
        (having(assistant=ASSISTANT | {"description": None}), "validation_error", "assistant.description: "),
        (having(assistant=ASSISTANT | {"id": "i" * 257}), "validation_error", "assistant.id: "),
        (having(callId=""), "validation_error", "callId: "),
        (having(callId="c" * 257), "validation_error", "callId: "),
        (having(callId="c\x00"), "validation_error", "callId: "),
        (having(callId=7), "validation_error", "callId: "),
        (having(location=f"https://recordings.example.com/{'l' * 2048}"), "validation_error", "location: "),
        (having(location="ftp://recordings.example.com/a"), "target_refused", "the URL must begin with"),
        (having(location="call.wav"), "target_refused", "the URL must begin with"),
        (having(location="https://ada:hush@recordings.example.com/a"), "target_refused", "location: the URL must not"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_nothing_is_taken(api: Api, body: Any, code: str, named: str) -> None:
    """400 in Canonical's manner, `error` and a code; the text names the field and quotes no value."""
    before = Outbox(api.redis).audit(RECORDINGS).accepted
    answer = hand_in(api, body)
    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["code"] == code
    assert named in answer.json["error"]
    assert "hush" not in answer.text
    assert Outbox(api.redis).audit(RECORDINGS).accepted == before


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[::1]", "localhost"])
def test_a_private_address_is_taken_and_fails_later(api: Api, host: str) -> None:
    """As any that cannot be reached: the answer tells nothing of this network, and whoever fetches judges."""
    before = Outbox(api.redis).audit(RECORDINGS).accepted
    answer = hand_in(api, having(location=f"https://{host}/a.wav", callId=f"private-{host}"))
    assert (answer.status_code, answer.json) == (200, {"callId": f"private-{host}"})
    assert Outbox(api.redis).audit(RECORDINGS).accepted == before + 1


@pytest.mark.parametrize(("key", "status", "code"), [("", 401, "api_key_missing"), ("sk_no", 401, "api_key_invalid")])
def test_refuses_who_has_no_key(api: Api, key: str, status: int, code: str) -> None:
    """Whatever the body."""
    answer = hand_in(api, EXAMPLE, key=key)
    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (status, code)


def test_a_key_that_may_only_read_hands_in_nothing(api: Api) -> None:
    """403, and nothing is taken."""
    before = Outbox(api.redis).audit(RECORDINGS).accepted
    answer = hand_in(api, EXAMPLE, key=api.account.reading_key)
    assert answer.status_code == 403
    assert Outbox(api.redis).audit(RECORDINGS).accepted == before


def test_an_account_over_its_quota_is_told_to_come_again(api: Api) -> None:
    """503 with Retry-After, as its webhooks are; bytes of calls count like those of content."""
    api.redis.set(keys.held_bytes(api.account.id), api.settings.account_quota_bytes)
    answer = hand_in(api, EXAMPLE)
    assert answer.json is not None
    assert (answer.status_code, answer.json["code"], answer.headers["Retry-After"]) == (503, "over_quota", "60")


def test_says_503_while_redis_does_not_take_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never 200 for what is not committed."""

    def refuse(*_: Any) -> None:
        raise Unavailable

    monkeypatch.setattr(Outbox, "accept", refuse)
    answer = hand_in(api, EXAMPLE)
    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
