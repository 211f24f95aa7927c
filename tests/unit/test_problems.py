"""Problems: errors as answers, in the form of each family of paths."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import billing.money
import relay.sealing
import relay.store.database
from relay.errors import (
    BadRequest,
    BodyTooLarge,
    Conflict,
    EncodingRefused,
    EventIgnored,
    LoopDetected,
    NotFound,
    OverQuota,
    PayloadError,
    SwitchhookError,
    TargetRefused,
    Unauthorized,
    Unavailable,
)
from relay.problems import envelope, problem, retry_after


@pytest.mark.parametrize(
    ("error", "status", "code", "title"),
    [
        (SwitchhookError(), 500, "internal_error", "Internal error"),
        (BadRequest(), 400, "validation_error", "Bad request"),
        (PayloadError(), 400, "body_invalid", "Bad request"),
        (TargetRefused(), 400, "target_refused", "Bad request"),
        (Unauthorized(), 401, "signature_invalid", "Not authorized"),
        (NotFound(), 404, "not_found", "Not found"),
        (Conflict(), 409, "conflict", "Conflict"),
        (BodyTooLarge(), 413, "body_too_large", "Body too large"),
        (EncodingRefused(), 415, "content_encoding_refused", "Unsupported encoding"),
        (Unavailable(), 503, "unavailable", "Unavailable"),
        (OverQuota(), 503, "over_quota", "Unavailable"),
        (LoopDetected(), 508, "loop_detected", "Loop detected"),
        (Unauthorized(code="secret_missing"), 401, "secret_missing", "Not authorized"),
    ],
)
def test_an_error_is_a_problem_document(error: SwitchhookError, status: int, code: str, title: str) -> None:
    """RFC 9457, with a code that stays the same."""
    body, content_type = problem(error)
    assert content_type == "application/problem+json"
    assert json.loads(body) == {
        "type": f"urn:switchhook:problem:{code}",
        "title": title,
        "status": status,
        "detail": error.detail,
        "code": code,
    }


def test_names_the_field_that_is_wrong() -> None:
    """In both forms."""
    error = PayloadError("type is absent", code="field_required", field="data.type")
    assert json.loads(problem(error)[0])["field"] == "data.type"
    body, content_type = envelope(error)
    assert content_type == "application/json"
    assert json.loads(body) == {
        "success": False,
        "error": "type is absent",
        "code": "field_required",
        "details": {"field": "data.type"},
    }


def test_the_envelope_has_no_details_without_a_field() -> None:
    """CanaryLLM's form."""
    assert json.loads(envelope(NotFound("no such session"))[0]) == {
        "success": False,
        "error": "no such session",
        "code": "not_found",
    }


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (NotFound(), {}),
        (SwitchhookError(), {}),
        (Unavailable(), {"Retry-After": "5"}),
        (OverQuota(), {"Retry-After": "60"}),
    ],
)
def test_says_when_to_come_again(error: SwitchhookError, headers: dict[str, str]) -> None:
    """Where coming again helps."""
    assert retry_after(error) == headers


def _every(kind: type[SwitchhookError]) -> Iterator[type[SwitchhookError]]:
    yield kind
    for sub in kind.__subclasses__():
        yield from _every(sub)


def test_every_error_has_an_answer_with_words() -> None:
    """A docstring is its message when nothing else is said."""
    kinds = set(_every(SwitchhookError))
    assert {relay.sealing.UnsealError, billing.money.BillingError, relay.store.database.StatementRefused} <= kinds
    for kind in kinds:
        assert (kind.__doc__ or "").strip().endswith((".", ";", "?"))
        assert kind.code.replace("_", "").isalpha()
        # Canonical answers 200 to an event that it does not take.
        assert 400 <= kind.status <= 599 or kind is EventIgnored


@pytest.mark.parametrize("text", ['quotes " and \\', "a\r\nb", "\x1b[31m", "\u2028", "%n%s", "ünï"])
def test_any_text_stays_one_json_string(text: str) -> None:
    """Header, line and terminal tricks have no effect."""
    for answer in (problem(NotFound(text)), envelope(NotFound(text))):
        assert b"\n" not in answer[0]
        assert b"\x1b" not in answer[0]
        assert text in json.loads(answer[0]).values()
