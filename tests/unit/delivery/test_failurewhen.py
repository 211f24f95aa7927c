"""`failureWhen`: which paths there are, what an answer must hold to be a failure, and what that makes of an attempt."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.calls import CallEvent, Facts
from relay.content import Content
from relay.delivery.dispatch import Dispatched, Dispatcher, Posting, settled
from relay.delivery.failurewhen import MAX_PATH_CHARS, checked_path, tells_failure
from relay.delivery.retry import FAILURE_WHEN, AttemptResult, Dead, Failure, Retry, decide
from relay.delivery.transport import Finished, Reply
from relay.directory import AccountView, Directory
from relay.errors import BadRequest
from relay.outbox import Claim, GateVerdict, Settlement, Verb
from relay.outbox.outcomes import AttemptOutcome, encode_facts
from relay.sealing import KeyRing, seal_event
from relay.store.snapshot import AccountConfig, EndpointConfig

RING = KeyRing("a passphrase for tests only, long enough to be taken")
NOW_MS = 1_770_811_500_000
END_MS = NOW_MS + 95 * 3_600_000
SAID = b'{"error":"words of a caller"}'
FACTS = Facts(
    event_id="evt_1",
    account_id="acc_1",
    call=CallEvent(provider="retell", kind="call_analyzed", event_class="complete", conversation_id="c", dedupe=("c",)),
    session_id=7,
    accepted_at_ms=NOW_MS - 1_000,
)
CLAIM = Claim(
    key="ep_1",
    event_id="evt_1",
    token=b"1770811560000",
    attempts=0,
    claims=1,
    accepted_ms=NOW_MS - 1_000,
    end_ms=END_MS,
    gate="",
    facts=encode_facts(FACTS),
    sealed=seal_event(RING, b"{}", event_id="evt_1", account_id="acc_1"),
    account_id="acc_1",
)


# -- paths


@pytest.mark.parametrize(
    "path",
    ["$.error", "$.a.b", "$._", "$.A1_b", "$.a.b.c.d.e.f.g.h", "$." + "x" * (MAX_PATH_CHARS - 2)],
)
def test_takes_a_path_of_names(path: str) -> None:
    """One to eight of them, as they are."""
    assert checked_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "$",
        "$.",
        "error",
        ".error",
        "$error",
        "$..error",
        "$.error.",
        "$.error ",
        " $.error",
        "$.error\n",  # what `$` at the end of a pattern would let through
        "$.error\x00",
        "$.errors[0]",
        "$['error']",
        "$.*",
        "$.1st",
        "$.a-b",
        "$.caf\u00e9",
        "$.a.b.c.d.e.f.g.h.i",  # nine names
        "$." + "x" * (MAX_PATH_CHARS - 1),
    ],
)
def test_refuses_any_other_path(path: str) -> None:
    """By the field's name, when it is configured."""
    with pytest.raises(BadRequest) as refused:
        checked_path(path)
    assert (refused.value.code, refused.value.field) == ("failure_when_refused", "failureWhen")


# -- answers


@pytest.mark.parametrize(
    ("path", "answer", "failure"),
    [
        ("$.error", b'{"error":"event is not call_analyzed"}', True),
        ("$.error", b'{"error":{"code":1}}', True),
        ("$.error", b'{"error":true}', True),
        # Present is present: only null and false take it back.
        ("$.error", b'{"error":""}', True),
        ("$.error", b'{"error":0}', True),
        ("$.error", b'{"error":[]}', True),
        ("$.error", b'{"error":{}}', True),
        ("$.error", b'{"error":null}', False),
        ("$.error", b'{"error":false}', False),
        ("$.error", b'{"callId":"c"}', False),
        ("$.error", b"{}", False),
        ("$.a.b", b'{"a":{"b":1}}', True),
        ("$.a.b", b'{"a":{"b":null}}', False),
        ("$.a.b", b'{"a":{}}', False),
        ("$.a.b", b'{"b":1}', False),
        ("$.a.b", b'{"a":"b"}', False),
        ("$.a.b", b'{"a":[{"b":1}]}', False),
        ("$.a.b.c.d.e.f.g.h", b'{"a":{"b":{"c":{"d":{"e":{"f":{"g":{"h":1}}}}}}}}', True),
        ("$.error", b'[{"error":1}]', False),
        ("$.error", b'"error"', False),
        ("$.error", b"null", False),
        # What is no JSON tells nothing.
        ("$.error", b"", False),
        ("$.error", b"OK", False),
        ("$.error", b"<html>error</html>", False),
        ("$.error", b'{"error":"cut', False),
        ("$.error", b'{"error":"x"} trailing', False),
        ("$.error", b'{"error":"caf\xe9"}', False),
        ("$.error", b'{"error":' + b"[" * 60_000 + b"]" * 60_000 + b"}", False),
        # What only some encoders write can be read all the same.
        ("$.error", b'\xef\xbb\xbf{"error":"x"}', True),
        ("$.error", b'{"error":"\\ud800"}', True),
        ("$.error", b'{"error":' + b"9" * 10_000 + b"}", True),
        ("$.error", b' {\n"error" :\t1e999 }', True),
        ("$.error", b'{"error":null,"error":1}', True),
    ],
)
def test_judges_an_answer_by_the_value_at_the_path(path: str, answer: bytes, failure: bool) -> None:
    """Anything there but null and false is a failure; an answer that cannot be read is none."""
    assert tells_failure(path, Content(answer)) is failure


@given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_any_bytes_can_be_judged(answer: bytes) -> None:
    """Nothing that a server answers raises."""
    assert tells_failure("$.error", Content(answer)) in (True, False)


# -- the decision


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_an_answer_that_tells_a_failure_is_retried_like_a_server_error(status: int) -> None:
    """On the same schedule, to the same end, with the status as its code and the reason for operators."""
    result = AttemptResult(status=status, answer_tells_failure=True)
    assert (result.is_delivered, result.tenant_code, result.operator_code) == (False, f"http_{status}", FAILURE_WHEN)
    for attempt in range(1, 11):
        answers = [
            decide(one, attempt=attempt, jitter=0.5, now_ms=NOW_MS, end_ms=END_MS)
            for one in (result, AttemptResult(status=500))
        ]
        assert answers[0] == answers[1]
        assert isinstance(answers[0], Dead if attempt == 10 else Retry)


def finished(body: bytes | None, *, is_whole: bool = True, **result: Any) -> Finished:
    outcome = AttemptResult(**({"status": 200} | result))
    reply = None
    if body is not None:
        reply = Reply(status=outcome.status or 0, content_type="text/html", body=Content(body), is_whole=is_whole)
    return Finished(ticket=None, result=outcome, duration_ms=120, response_bytes=29, reply=reply)


def after(done: Finished, *, failure_when: str | None = "$.error", single_attempt: bool = False) -> Settlement:
    posting = Posting(CLAIM, FACTS, single_attempt=single_attempt, failure_when=failure_when)
    return settled(posting, done, redis_now_ms=NOW_MS, jitter=0.0)


def told(settlement: Settlement) -> AttemptOutcome:
    return msgspec.msgpack.decode(settlement.outcome, type=AttemptOutcome)


def test_an_attempt_whose_answer_tells_a_failure_has_failed() -> None:
    """It waits for its next attempt and tells on its endpoint; the status is kept, and nothing of the body."""
    settlement = after(finished(SAID))
    assert (settlement.verb, settlement.delay_ms, settlement.gate) == (Verb.RETRY, 5_000, GateVerdict.BAD)
    outcome = told(settlement)
    assert (outcome.status, outcome.code, outcome.detail, outcome.http_status) == (
        "pending",
        "http_200",
        "failure_when",
        200,
    )
    assert (outcome.response_bytes, outcome.retry_in_ms) == (29, 5_000)
    assert b"caller" not in settlement.outcome


def test_without_retention_it_is_the_only_attempt() -> None:
    """Whatever its answer says."""
    settlement = after(finished(SAID), single_attempt=True)
    assert (settlement.verb, settlement.shred, told(settlement).code) == (Verb.DEAD, True, "attempts_exhausted")


@pytest.mark.parametrize(
    ("done", "options"),
    [
        pytest.param(finished(b'{"callId":"c"}'), {}, id="an answer without the field"),
        pytest.param(finished(SAID, is_whole=False), {}, id="an answer that was cut"),
        pytest.param(finished(b"OK"), {}, id="no JSON"),
        pytest.param(finished(None), {}, id="no body was kept"),
        pytest.param(finished(SAID), {"failure_when": None}, id="nobody asked"),
    ],
)
def test_any_other_2xx_is_delivered(done: Finished, options: dict[str, Any]) -> None:
    """The status has the first word, and the body one only where it can be read."""
    assert after(done, **options).verb is Verb.DONE


@pytest.mark.parametrize(
    ("done", "code", "detail"),
    [
        (finished(SAID, status=500), "http_500", "http_500"),
        (finished(SAID, status=302), "http_302", "http_302"),
        (finished(SAID, status=None, failure=Failure.TIMED_OUT), "timeout", "timed_out"),
    ],
)
def test_an_attempt_that_failed_anyway_says_why(done: Finished, code: str, detail: str) -> None:
    """The body of an answer that is not 2xx is not looked at."""
    outcome = told(after(done))
    assert (outcome.code, outcome.detail) == (code, detail)


# -- requests


class OneEndpoint(Directory):
    """A directory of one endpoint."""

    def __init__(self, failure_when: str | None) -> None:
        self._failure_when = failure_when

    def account(self, account_id: str) -> AccountView:
        endpoint = EndpointConfig(
            id="ep_1",
            url="https://customer.example/hook",
            headers={},
            webhook_secret="hush",
            signing_secrets=("whsec_" + "QUJD" * 8,),
            signing="standard",
            filters=("*",),
            deadline_seconds=15,
            retention_hours=None,
            template_id=None,
            source_id=None,
            state="active",
            failure_when=self._failure_when,
        )
        config = AccountConfig(
            account_id=account_id,
            version=1,
            quota_bytes=None,
            key_hashes=(),
            sources=(),
            endpoints=(endpoint,),
            templates=(),
        )
        return AccountView(config)


@pytest.mark.parametrize("failure_when", [None, "$.error"])
def test_an_answer_is_kept_only_where_a_field_of_it_is_asked_for(failure_when: str | None) -> None:
    """Everybody else's answers are never held at all."""
    dispatcher = Dispatcher(OneEndpoint(failure_when), RING, retention=timedelta(hours=96))
    job = dispatcher.dispatch(CLAIM, redis_now_ms=NOW_MS, now_ms=NOW_MS)
    assert isinstance(job, Dispatched)
    assert job.request.keep_reply is (failure_when is not None)
    assert job.posting.failure_when == failure_when
