"""Dispatch: what a claimed unit asks for, and what an attempt makes of it."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from relay.calls import CallEvent, Facts
from relay.delivery.dispatch import Dispatched, Dispatcher, Posting, ending, refusal, settled
from relay.delivery.retry import AttemptResult, Failure
from relay.delivery.transport import Finished
from relay.directory import AccountView, Directory
from relay.errors import NotFound, SwitchhookError, Unavailable
from relay.outbox import Claim, GateVerdict, Settlement, Verb
from relay.outbox.outcomes import AttemptOutcome, encode_facts
from relay.sealing import KeyRing, UnsealError, seal_event
from relay.store.database import StatementRefused
from relay.store.snapshot import AccountConfig, EndpointConfig

NOW_MS = 1_770_811_500_000
END_MS = NOW_MS + 3_600_000
HOUR_MS = 3_600_000
RETENTION = timedelta(hours=96)
RING = KeyRing("a passphrase for tests only, long enough to be taken")
SIGNING_SECRET = "whsec_" + base64.b64encode(b"0" * 32).decode()
BODY = b'{"event":"call_analyzed","call":{"transcript":"hello"}}'
FACTS = Facts(
    event_id="evt_1",
    account_id="acc_1",
    call=CallEvent(provider="retell", kind="call_analyzed", event_class="complete", conversation_id="c"),
    session_id=7,
    accepted_at_ms=NOW_MS - 1_000,
    template_id=3,
    template_name="Intake",
)


def an_endpoint(**changes: Any) -> EndpointConfig:
    whole = EndpointConfig(
        id="ep_1",
        url="https://customer.example/hook",
        headers={"X-Own": "1"},
        webhook_secret="hush",
        signing_secrets=(SIGNING_SECRET,),
        signing="standard",
        filters=("*",),
        deadline_seconds=15,
        retention_hours=None,
        template_id=None,
        source_id=None,
        state="active",
    )
    return msgspec.structs.replace(whole, **changes)


def a_claim(**changes: Any) -> Claim:
    whole = Claim(
        key="ep_1",
        event_id="evt_1",
        token=b"1770811560000",
        attempts=0,
        claims=1,
        accepted_ms=NOW_MS - 1_000,
        end_ms=END_MS,
        gate="",
        facts=encode_facts(FACTS),
        sealed=seal_event(RING, BODY, event_id="evt_1", account_id="acc_1"),
        account_id="acc_1",
    )
    return whole._replace(**changes)


class OneAccount(Directory):
    """A directory of one account in memory, or of an error."""

    def __init__(self, *endpoints: EndpointConfig, error: Exception | None = None) -> None:
        self._endpoints = endpoints
        self._error = error

    def account(self, account_id: str) -> AccountView:
        if self._error is not None:
            raise self._error
        config = AccountConfig(
            account_id=account_id,
            version=1,
            quota_bytes=None,
            key_hashes=(),
            sources=(),
            endpoints=self._endpoints,
            templates=(),
        )
        return AccountView(config)


def dispatch(
    claim: Claim, *endpoints: EndpointConfig, now_ms: int = NOW_MS, error: Exception | None = None, ring: KeyRing = RING
) -> Dispatched | Settlement:
    dispatcher = Dispatcher(OneAccount(*(endpoints or (an_endpoint(),)), error=error), ring, retention=RETENTION)
    return dispatcher.dispatch(claim, redis_now_ms=now_ms, now_ms=now_ms)


def sent(job: Dispatched | Settlement) -> Dispatched:
    assert isinstance(job, Dispatched)
    return job


def unsent(job: Dispatched | Settlement) -> Settlement:
    assert isinstance(job, Settlement)
    return job


def outcome(settlement: Settlement) -> AttemptOutcome:
    return msgspec.msgpack.decode(settlement.outcome, type=AttemptOutcome)


# -- refusal


@pytest.mark.parametrize(
    ("claim", "endpoint", "code"),
    [
        ({}, {}, None),
        ({"attempts": 9, "claims": 5}, {}, None),  # the tenth attempt, and a fifth claim, are still made
        ({"claims": 6}, {}, "poison"),
        ({"claims": 6}, {"state": "disabled"}, "poison"),  # says more than the state does
        ({"gate": "gone"}, {}, "endpoint_gone"),  # a 410 counts before the configuration knows of it
        ({"gate": "open"}, {}, None),  # a probe
        ({}, {"state": "gone"}, "endpoint_gone"),
        ({}, {"state": "disabled"}, "endpoint_disabled"),
        ({}, {"retention_hours": 0}, None),
        ({"attempts": 1}, {"retention_hours": 0}, "attempts_exhausted"),
        ({"claims": 2}, {"retention_hours": 0}, "attempts_exhausted"),  # its process died, maybe after sending
        ({"claims": 2}, {"retention_hours": 1}, None),
        ({"claims": 2}, {"retention_hours": None}, None),
    ],
)
def test_gives_up_without_a_request(claim: dict[str, Any], endpoint: dict[str, Any], code: str | None) -> None:
    """Poison, an endpoint that takes nothing, and a second attempt where only one is allowed."""
    assert refusal(a_claim(**claim), an_endpoint(**endpoint), redis_now_ms=NOW_MS) == code


@pytest.mark.parametrize(
    ("retention_hours", "hours"),
    [
        (2, 1),  # its own retention less the margin for a replay, however long another endpoint keeps the event
        (None, 95),  # the setting's default
        (700, 500),  # never longer than the event itself
        (0, 500),  # one attempt, whenever it comes
    ],
)
def test_each_endpoint_has_its_own_end(retention_hours: int | None, hours: int) -> None:
    """The event's end is the latest of its endpoints; a unit ends when its own endpoint asks for it."""
    claim = a_claim(accepted_ms=NOW_MS, end_ms=NOW_MS + 500 * HOUR_MS)
    own = ending(claim, an_endpoint(retention_hours=retention_hours), default=RETENTION)
    assert own.end_ms == NOW_MS + hours * HOUR_MS


def test_nothing_is_sent_long_after_the_end() -> None:
    """A last attempt comes at the end; a unit found ten minutes later is given up."""
    claim = a_claim()
    assert refusal(claim, an_endpoint(), redis_now_ms=END_MS + 599_000) is None
    assert refusal(claim, an_endpoint(), redis_now_ms=END_MS + 601_000) == "retention_ended"


@pytest.mark.parametrize(
    ("claim", "endpoint", "code", "shred"),
    [
        ({"claims": 6}, {}, "poison", False),
        ({}, {"state": "disabled"}, "endpoint_disabled", False),
        ({}, {"state": "disabled", "retention_hours": 0}, "endpoint_disabled", True),
        ({"claims": 2}, {"retention_hours": 0}, "attempts_exhausted", True),
        ({}, {"id": "ep_other"}, "endpoint_gone", False),
    ],
)
def test_a_refusal_ends_the_unit_and_says_why(
    claim: dict[str, Any], endpoint: dict[str, Any], code: str, shred: bool
) -> None:
    """No attempt is counted; content is kept for a replay only where it may be kept at all."""
    settlement = unsent(dispatch(a_claim(**claim), an_endpoint(**endpoint)))
    assert (settlement.verb, settlement.shred, settlement.attempted) == (Verb.DEAD, shred, False)
    assert settlement.gate is GateVerdict.NONE
    told = outcome(settlement)
    assert (told.status, told.code, told.attempted, told.number) == ("dead", code, False, 0)
    assert (told.event_id, told.endpoint_id, told.account_id) == ("evt_1", "ep_1", "acc_1")


# -- dispatch


def test_sends_the_providers_bytes_verbatim() -> None:
    """To an endpoint that is not a template's, with its headers and its deadline."""
    claim = a_claim(attempts=2)
    job = sent(dispatch(claim))
    assert job.request.body.reveal() == BODY
    assert job.request.url == "https://customer.example/hook"
    assert job.request.deadline_ms == 15_000
    assert {b"webhook-id: evt_1", b"Switchhook-Attempt: 3", b"X-Own: 1", b"X-Webhook-Secret: hush"} <= {
        *job.request.headers
    }
    assert job.posting == Posting(claim, FACTS, single_attempt=False)


def test_says_of_content_that_was_fetched_again_what_it_is() -> None:
    """In a header; other deliveries have none of that name."""
    refetched = encode_facts(msgspec.structs.replace(FACTS, refetched=True))
    assert b"Switchhook-Refetched: 1" in sent(dispatch(a_claim(facts=refetched))).request.headers
    usual = sent(dispatch(a_claim())).request.headers
    assert not [line for line in usual if line.startswith(b"Switchhook-Refetched")]


def test_what_was_erased_ends_as_such() -> None:
    """Its content was shredded while a worker had it that died: it is not lost, and nobody is alarmed."""
    settlement = unsent(dispatch(a_claim(sealed=None, is_erased=True)))
    assert (settlement.verb, settlement.shred) == (Verb.DEAD, True)
    told = outcome(settlement)
    assert (told.status, told.code, told.attempted) == ("dead", "erased", False)


def test_wraps_them_for_the_endpoint_of_a_template() -> None:
    """In CanaryLLM's envelope, byte for byte."""
    body = sent(dispatch(a_claim(), an_endpoint(template_id=3))).request.body.reveal()
    assert body.startswith(b'{"event":"complete","sessionId":7,"templateId":3,"templateName":"Intake"')
    assert body.endswith(b'"data":' + BODY + b"}")


def test_every_attempt_has_the_same_bytes() -> None:
    """Only time and count differ."""
    bodies = {
        sent(dispatch(a_claim(attempts=n), an_endpoint(template_id=3), now_ms=NOW_MS + n)).request.body.reveal()
        for n in range(10)
    }
    assert len(bodies) == 1


@pytest.mark.parametrize("hours", [None, 0, 1])
def test_an_endpoint_without_retention_gets_a_single_attempt(hours: int | None) -> None:
    """What is never kept cannot be sent again."""
    assert sent(dispatch(a_claim(), an_endpoint(retention_hours=hours))).posting.single_attempt is (hours == 0)


def test_a_changed_endpoint_is_signed_anew() -> None:
    """Its prepared keys are kept only as long as its configuration."""
    dispatcher = Dispatcher(OneAccount(an_endpoint()), RING, retention=RETENTION)
    before = sent(dispatcher.dispatch(a_claim(), redis_now_ms=NOW_MS, now_ms=NOW_MS))
    dispatcher._directory = OneAccount(an_endpoint(webhook_secret="changed"))
    after = sent(dispatcher.dispatch(a_claim(), redis_now_ms=NOW_MS, now_ms=NOW_MS))
    assert b"X-Webhook-Secret: hush" in before.request.headers
    assert b"X-Webhook-Secret: changed" in after.request.headers


def test_the_endpoints_of_an_unknown_account_are_gone() -> None:
    """Whatever waited for them ends, and says so."""
    settlement = unsent(dispatch(a_claim(), error=NotFound()))
    assert (settlement.verb, outcome(settlement).code) == (Verb.DEAD, "endpoint_gone")


@pytest.mark.parametrize("error", [Unavailable(), UnsealError()])
def test_waits_while_the_configuration_cannot_be_read(error: SwitchhookError) -> None:
    """No attempt is used, and nothing is told: nothing happened."""
    claim = a_claim()
    assert unsent(dispatch(claim, error=error)) == Settlement(claim, Verb.RELEASE, delay_ms=5_000)


def test_missing_content_is_lost_before_its_end_and_ended_after_it() -> None:
    """The one is an alarm, the other is what retention means."""
    lost = unsent(dispatch(a_claim(sealed=None), now_ms=END_MS - 1))
    assert (lost.verb, outcome(lost).status, outcome(lost).code) == (Verb.LOST, "content_lost", "content_lost")
    ended = unsent(dispatch(a_claim(sealed=None), now_ms=END_MS))
    assert (ended.verb, outcome(ended).status, outcome(ended).code) == (Verb.DEAD, "dead", "retention_ended")


@pytest.mark.parametrize(
    "sealed",
    [
        pytest.param(seal_event(KeyRing("x" * 32), BODY, event_id="evt_1", account_id="acc_1"), id="unknown key"),
        pytest.param(seal_event(RING, BODY, event_id="evt_2", account_id="acc_1"), id="another event's"),
        pytest.param(seal_event(RING, BODY, event_id="evt_1", account_id="acc_2"), id="another account's"),
        pytest.param(b"", id="empty"),
    ],
)
def test_content_that_does_not_open_waits_for_its_key_until_its_end(sealed: bytes) -> None:
    """An operator can put a key back; it is never sent as anything else."""
    waiting = unsent(dispatch(a_claim(sealed=sealed), now_ms=END_MS - 1))
    assert (waiting.verb, waiting.delay_ms, waiting.attempted) == (Verb.RELEASE, 60_000, False)
    ended = unsent(dispatch(a_claim(sealed=sealed), now_ms=END_MS))
    assert (ended.verb, outcome(ended).code) == (Verb.DEAD, "retention_ended")


@pytest.mark.parametrize("facts", [b"\xff", b"", None], ids=["junk", "empty", "missing"])
def test_facts_that_cannot_be_read_harm_nobody_else(facts: bytes | None) -> None:
    """The unit waits for a version that reads them, and ends at its end."""
    waiting = unsent(dispatch(a_claim(facts=facts), now_ms=END_MS - 1))
    assert (waiting.verb, waiting.delay_ms) == (Verb.RELEASE, 60_000)
    ended = unsent(dispatch(a_claim(facts=facts), now_ms=END_MS))
    assert (ended.verb, ended.outcome) == (Verb.DEAD, b"")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"signing_secrets": ("whsec_not base64",)}, None),
        ({"signing_secrets": ()}, None),
        ({"headers": {"X-Bad": "a\r\nb"}}, None),
        ({}, StatementRefused("Error")),
        ({}, RuntimeError("quotes hello")),
    ],
)
def test_an_endpoint_that_cannot_be_dispatched_harms_nobody_else(
    changes: dict[str, Any], error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Its units wait, are told of in the log, and end at their end; the courier goes on."""
    waiting = unsent(dispatch(a_claim(), an_endpoint(**changes), error=error))
    assert (waiting.verb, waiting.delay_ms, waiting.attempted) == (Verb.RELEASE, 60_000, False)
    assert [record.msg for record in caplog.records] == ["dispatch_failed"]
    ended = unsent(dispatch(a_claim(), an_endpoint(**changes), error=error, now_ms=END_MS))
    assert (ended.verb, outcome(ended).code) == (Verb.DEAD, "retention_ended")


# -- settled


def finished(**result: Any) -> Finished:
    return Finished(ticket=None, result=AttemptResult(**result), duration_ms=120, response_bytes=5)


def after(
    done: Finished, *, attempts: int = 0, single_attempt: bool = False, now_ms: int = NOW_MS, jitter: float = 0.0
) -> Settlement:
    posting = Posting(a_claim(attempts=attempts), FACTS, single_attempt=single_attempt)
    return settled(posting, done, redis_now_ms=now_ms, jitter=jitter)


@pytest.mark.parametrize(
    ("done", "options", "expected"),
    [
        ({"status": 200}, {}, (Verb.DONE, 0, GateVerdict.OK, False)),
        ({"status": 204}, {"attempts": 9}, (Verb.DONE, 0, GateVerdict.OK, False)),
        ({"status": 200}, {"single_attempt": True}, (Verb.DONE, 0, GateVerdict.OK, False)),
        ({"status": 500}, {}, (Verb.RETRY, 5_000, GateVerdict.BAD, False)),
        ({"status": 500}, {"jitter": 1.0}, (Verb.RETRY, 6_000, GateVerdict.BAD, False)),
        ({"status": 302}, {"attempts": 1}, (Verb.RETRY, 300_000, GateVerdict.BAD, False)),
        ({"status": 503, "retry_after_seconds": 60}, {}, (Verb.RETRY, 60_000, GateVerdict.BAD, False)),
        ({"failure": Failure.TRUNCATED}, {}, (Verb.RETRY, 5_000, GateVerdict.BAD, False)),
        ({"failure": Failure.TARGET_REFUSED}, {}, (Verb.RETRY, 5_000, GateVerdict.BAD, False)),
        # No wait reaches past the end: a last attempt is made at that moment, and none after it.
        ({"status": 500}, {"attempts": 5, "now_ms": END_MS - 7}, (Verb.RETRY, 7, GateVerdict.BAD, False)),
        ({"status": 500}, {"now_ms": END_MS}, (Verb.DEAD, 0, GateVerdict.BAD, False)),
        ({"status": 500}, {"attempts": 9}, (Verb.DEAD, 0, GateVerdict.BAD, False)),
        ({"status": 500}, {"single_attempt": True}, (Verb.DEAD, 0, GateVerdict.BAD, True)),
        ({"failure": Failure.TIMED_OUT}, {"single_attempt": True}, (Verb.DEAD, 0, GateVerdict.BAD, True)),
        ({"status": 410}, {}, (Verb.DEAD, 0, GateVerdict.GONE, False)),
        ({"status": 410}, {"single_attempt": True}, (Verb.DEAD, 0, GateVerdict.GONE, True)),
    ],
)
def test_settles_an_attempt(
    done: dict[str, Any], options: dict[str, Any], expected: tuple[Verb, int, GateVerdict, bool]
) -> None:
    """Delivered, again later, or dead; every one counts as an attempt and tells on its endpoint."""
    settlement = after(finished(**done), **options)
    assert (settlement.verb, settlement.delay_ms, settlement.gate, settlement.shred) == expected
    assert settlement.attempted


@pytest.mark.parametrize(
    ("done", "attempts", "told"),
    [
        ({"status": 201}, 0, {"status": "delivered", "http_status": 201, "number": 1}),
        ({"status": 500}, 1, {"status": "pending", "code": "http_500", "detail": "http_500", "http_status": 500,
                              "number": 2, "retry_in_ms": 300_000}),
        ({"failure": Failure.DNS_FAILED}, 0, {"status": "pending", "code": "unreachable", "detail": "dns_failed",
                                              "number": 1, "retry_in_ms": 5_000}),
        ({"status": 410}, 0, {"status": "dead", "code": "endpoint_gone", "detail": "http_410", "http_status": 410,
                              "number": 1}),
        ({"status": 404}, 9, {"status": "dead", "code": "attempts_exhausted", "detail": "http_404",
                              "http_status": 404, "number": 10}),
    ],
)  # fmt: skip
def test_tells_what_came_of_an_attempt(done: dict[str, Any], attempts: int, told: dict[str, Any]) -> None:
    """Tenants see a code, operators the detail; nothing of the answer itself is kept."""
    expected = AttemptOutcome(
        event_id="evt_1",
        endpoint_id="ep_1",
        account_id="acc_1",
        accepted_ms=NOW_MS - 1_000,
        duration_ms=120,
        response_bytes=5,
        **told,
    )
    assert outcome(after(finished(**done), attempts=attempts)) == expected
