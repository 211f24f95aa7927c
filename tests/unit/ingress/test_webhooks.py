"""The ingress' routes: thin views that never answer 500, and never quote what they were sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from relay.bodies import FREE_BYTES, BodyBudget
from relay.content import Content
from relay.errors import NotFound, OverQuota, PayloadError, SwitchhookError, Unauthorized, Unavailable
from relay.ingress import webhooks
from relay.ingress.intake import Intake, Receipt
from relay.telemetry import metrics

LIMIT = 1_000
SIGNED = "/api/v1/webhooks/retell/src_1"
CANARY_ROUTES = ("/api/convagents/webhook/event", "/api/convagents/webhook/complete")
SAID = "words-of-a-caller"


class ScriptedIntake(Intake):
    """Takes everything, or raises what it is told; remembers what it was given."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.unexpected: SwitchhookError | None = None
        self.repeat = False
        self.taken: list[tuple[bytes, dict[str, Any]]] = []

    def expects_signed(self, *_: Any, **__: Any) -> None:
        if self.unexpected is not None:
            raise self.unexpected

    expects_canary = expects_signed

    def signed(self, provider_name: str, source_id: str, body: Content, **given: Any) -> Receipt:
        return self._receipt(body, {"provider": provider_name, "source": source_id, **given})

    def canary(self, route: Any, body: Content, **given: Any) -> Receipt:
        return self._receipt(body, {"route": route, **given})

    def _receipt(self, body: Content, given: dict[str, Any]) -> Receipt:
        self.taken.append((body.reveal(), given))
        if self.error is not None:
            raise self.error
        return Receipt("evt_1", repeat=self.repeat, conversation_id="call_1")


@pytest.fixture
def intake() -> ScriptedIntake:
    return ScriptedIntake()


@pytest.fixture
def client(intake: ScriptedIntake) -> Iterator[FlaskClient]:
    """A client of the routes alone."""
    app = Flask("test")
    app.config["SWITCHHOOK_MAX_BODY"] = LIMIT
    app.extensions[webhooks.EXTENSION] = intake
    app.register_blueprint(webhooks.blueprint)
    with app.test_client() as client:
        yield client


@pytest.mark.parametrize("repeat", [False, True])
def test_a_signed_webhook_is_answered_with_its_id(client: FlaskClient, intake: ScriptedIntake, repeat: bool) -> None:
    """And whether it was there before."""
    intake.repeat = repeat
    answer = client.post(SIGNED, data=b"{}", headers={"X-Retell-Signature": "proof"})
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert json.loads(answer.data) == {"received": True, "id": "evt_1", "repeat": repeat}
    body, given = intake.taken[0]
    assert (body, given["provider"], given["source"]) == (b"{}", "retell", "src_1")
    assert given["header"]("x-retell-signature") == "proof"


@pytest.mark.parametrize("path", CANARY_ROUTES)
def test_a_canary_webhook_is_answered_in_its_own_form(client: FlaskClient, intake: ScriptedIntake, path: str) -> None:
    """With everything that proves and identifies it handed on."""
    headers = {"X-Webhook-Secret": "s", "Idempotency-Key": "k", "ElevenLabs-Signature": "t=1"}
    answer = client.post(path, data=b"{}", headers=headers)
    assert json.loads(answer.data) == {"success": True, "data": {"received": True, "id": "evt_1"}}
    _, given = intake.taken[0]
    assert given["route"] == path.rpartition("/")[2]
    assert (given["secret"], given["idempotency_key"], given["signature"]) == ("s", "k", "t=1")


@pytest.mark.parametrize("path", [SIGNED, *CANARY_ROUTES])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Unauthorized(), (401, "signature_invalid", None)),
        (NotFound(), (404, "not_found", None)),
        (PayloadError("type is absent", field="type"), (400, "body_invalid", None)),
        (Unavailable(), (503, "unavailable", "5")),
        (OverQuota(), (503, "over_quota", "60")),
        (SwitchhookError(), (503, "unavailable", "5")),  # a sealed secret that does not open, say
        (RuntimeError(SAID), (503, "unavailable", "5")),
        (RecursionError(SAID), (503, "unavailable", "5")),
        (UnicodeDecodeError("utf-8", SAID.encode(), 0, 1, SAID), (503, "unavailable", "5")),
    ],
)
def test_an_error_is_answered_with_its_code(
    client: FlaskClient, intake: ScriptedIntake, path: str, error: Exception, expected: tuple[int, str, str | None]
) -> None:
    """In the form of its path; what nobody foresaw is worth another try, and says nothing of itself."""
    intake.error = error
    answer = client.post(path, data=b"{}")
    told = json.loads(answer.data)
    assert (answer.status_code, told["code"], answer.headers.get("Retry-After")) == expected
    assert SAID.encode() not in answer.data
    if path == SIGNED:
        assert answer.content_type == "application/problem+json"
    else:
        assert told["success"] is False


@pytest.mark.parametrize("path", [SIGNED, *CANARY_ROUTES])
@pytest.mark.parametrize("error", [NotFound(), Unauthorized(code="secret_missing"), Unavailable()])
def test_what_headers_can_tell_is_refused_before_the_body_is_read(
    client: FlaskClient, intake: ScriptedIntake, path: str, error: SwitchhookError
) -> None:
    """Not a byte is taken from a sender that shows nothing; not even what is wrong with the body is told."""
    intake.unexpected = error
    environ = {"wsgi.input": Unreadable(), "CONTENT_LENGTH": str(LIMIT + 1)}
    answer = client.post(path, environ_overrides=environ, headers={"Content-Encoding": "br"})
    assert (answer.status_code, json.loads(answer.data)["code"]) == (error.status, error.code)
    assert intake.taken == []


class Unreadable:
    """A body that must not be asked for."""

    def read(self, *_: Any) -> bytes:
        raise AssertionError("the body was read")


def test_large_bodies_share_what_the_process_may_hold(
    client: FlaskClient, intake: ScriptedIntake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit is told to come again; what was taken is given back, however its request ended."""
    client.application.config["SWITCHHOOK_MAX_BODY"] = 10 * FREE_BYTES
    monkeypatch.setattr(webhooks, "_BODIES", BodyBudget(FREE_BYTES))
    whole, too_much = bytes(2 * FREE_BYTES), bytes(2 * FREE_BYTES + 1)

    endings: list[tuple[Exception | None, int]] = [(None, 200), (Unauthorized(), 401), (RuntimeError(SAID), 503)]
    for error, status in endings:
        intake.error = error
        refused = client.post(SIGNED, data=too_much)
        told = json.loads(refused.data)
        assert (refused.status_code, told["code"], refused.headers["Retry-After"]) == (503, "bodies_full", "5")
        assert client.post(SIGNED, data=whole).status_code == status
    assert [len(body) for body, _ in intake.taken] == [len(whole)] * 3


def test_a_body_that_is_too_large_raises_an_alarm(
    client: FlaskClient, intake: ScriptedIntake, caplog: pytest.LogCaptureFixture
) -> None:
    """It is content that is lost unless somebody raises the limit."""
    labels = {"provider": "retell"}
    before = metrics.REGISTRY.get_sample_value("switchhook_relay_bodies_refused_total", labels) or 0
    answer = client.post(SIGNED, data=bytes(LIMIT + 1))
    assert (answer.status_code, json.loads(answer.data)["code"]) == (413, "body_too_large")
    assert metrics.REGISTRY.get_sample_value("switchhook_relay_bodies_refused_total", labels) == before + 1
    (record,) = caplog.records
    assert (record.msg, record.levelname) == ("body_too_large", "ERROR")
    assert record.__dict__["fields"] == {"provider": "retell", "source_id": "src_1", "limit_bytes": LIMIT}
    assert intake.taken == []


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("/api/v1/webhooks/elevenlabs/src_1", True),
        ("/api/convagents/webhook/complete", True),
        (SIGNED, False),
        ("/api/convagents/webhook/event", False),
    ],
)
def test_recordings_are_taken_where_elevenlabs_sends_them(client: FlaskClient, path: str, taken: bool) -> None:
    """Elsewhere the ordinary limit holds."""
    recording = b'{"type":"post_call_audio","data":"' + bytes(LIMIT)
    assert (client.post(path, data=recording).status_code == 200) is taken


def test_a_compressed_body_is_refused(client: FlaskClient, intake: ScriptedIntake) -> None:
    """415, and nothing is unpacked."""
    assert client.post(SIGNED, data=b"x", headers={"Content-Encoding": "gzip"}).status_code == 415
    assert intake.taken == []


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        (None, "application/json"),
        ("application/json", "application/json"),
        ("application/json; charset=utf-8", "application/json; charset=utf-8"),
        ("text/plain", "text/plain"),
        ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded"),
        ("multipart/form-data; boundary=x", "multipart/form-data; boundary=x"),
        ("x" * 257, "application/json"),
        ("t\u00e9xt/plain", "application/json"),
        ("text/plain\x01", "application/json"),
    ],
)
def test_the_content_type_is_passed_on_if_it_can_be_sent(
    client: FlaskClient, intake: ScriptedIntake, given: str | None, passed_on: str
) -> None:
    """The body is the same bytes whatever it is called."""
    environ = {} if given is None else {"CONTENT_TYPE": given.encode().decode("latin-1")}
    body = b"a=b&c=%00"
    client.post(SIGNED, data=body, environ_overrides=environ)
    assert intake.taken[0][0] == body
    assert intake.taken[0][1]["content_type"] == passed_on


def test_an_unknown_provider_makes_no_metric_of_its_own(client: FlaskClient, intake: ScriptedIntake) -> None:
    """Whoever sends to invented paths must not fill the memory."""
    intake.error = NotFound()
    for name in ("nobody", "somebody"):
        assert client.post(f"/api/v1/webhooks/{name}/src_1", data=b"{}").status_code == 404
    text = metrics.exposition()
    assert b'provider="unknown"' in text
    assert b"nobody" not in text


@pytest.mark.parametrize("path", [SIGNED, *CANARY_ROUTES])
def test_only_posts_are_taken(client: FlaskClient, path: str) -> None:
    """A browser that opens the address is told so."""
    for method in ("get", "put", "delete", "patch"):
        assert getattr(client, method)(path).status_code == 405
