"""Canonical's route for Retell: proved by an API key, answered as Canonical answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from relay.calls import TRUST_KEY, Facts
from relay.directory import AccountView, Directory
from relay.errors import OverQuota, Unavailable
from relay.ingress import canonical, webhooks
from relay.ingress.commit import GroupCommit
from relay.ingress.intake import Intake
from relay.outbox import Admission, Verdict
from relay.outbox.outcomes import decode_facts
from relay.providers import retell
from relay.queues import BILLING, RELAY
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store.snapshot import AccountConfig, EndpointConfig, SourceConfig, TemplateConfig
from relay.telemetry import metrics
from tests.payloads import retell_event, retell_headers

PATH = "/api/v1/webhooks/retell"
KEY = {"X-Canonical-Api-Key": "sk_live_1"}
LIMIT = 10_000
RING = KeyRing("a passphrase for tests only, long enough to be taken")
SETTINGS = Settings(database_url="", redis_url="", keys="", retention=timedelta(hours=96), account_quota_bytes=50_000)


def an_endpoint(name: str, **changes: Any) -> EndpointConfig:
    values: dict[str, Any] = {
        "id": name,
        "url": "https://customer.example/",
        "headers": {},
        "webhook_secret": "hush",
        "signing_secrets": ("whsec_" + "QUJD" * 8,),
        "signing": "standard",
        "filters": ("*",),
        "deadline_seconds": 15,
        "retention_hours": None,
        "template_id": None,
        "source_id": None,
        "state": "active",
    }
    return EndpointConfig(**(values | changes))


TEMPLATE = TemplateConfig(
    id=3,
    name="Intake",
    agent_id="agent_of_template",
    provider="retell",
    endpoint_id="ep_template",
    content_retention_hours=None,
    webhook_secret="shared",
)
VIEW = AccountView(
    AccountConfig(
        account_id="acc_1",
        version=4,
        quota_bytes=None,
        key_hashes=(),
        sources=(SourceConfig(id="src_1", provider="retell", secrets=("secret",)),),
        endpoints=(
            an_endpoint("ep_wide"),
            an_endpoint("ep_analyzed", filters=("retell.call_analyzed",)),
            an_endpoint("ep_elevenlabs", filters=("elevenlabs.*",)),
            an_endpoint("ep_template", template_id=3),
            an_endpoint("ep_source", source_id="src_1"),
        ),
        templates=(TEMPLATE,),
    )
)


class OneKey(Directory):
    """A directory of one account with one key, or of an error."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def account_of_key(self, key: str) -> AccountView | None:
        if self.error is not None:
            raise self.error
        return VIEW if key == "sk_live_1" else None

    def source(self, source_id: str) -> tuple[AccountView, SourceConfig]:
        return VIEW, VIEW.sources[source_id]


class Commits(GroupCommit):
    """Keeps what would be committed."""

    def __init__(self) -> None:
        self.verdict = Verdict.NEW
        self.error: Exception | None = None
        self.admissions: list[Admission] = []

    def start(self) -> None:
        """There is nothing to start."""

    def commit(self, admission: Admission) -> Verdict:
        if self.error is not None:
            raise self.error
        self.admissions.append(admission)
        return self.verdict

    @property
    def facts(self) -> Facts:
        admission = self.admissions[-1]
        return decode_facts(admission.facts, event_id=admission.event_id, account_id=admission.account_id)


@pytest.fixture
def directory() -> OneKey:
    return OneKey()


@pytest.fixture
def commits() -> Commits:
    return Commits()


@pytest.fixture
def client(directory: OneKey, commits: Commits) -> Iterator[FlaskClient]:
    """A client of Canonical's route and the signed one."""
    app = Flask("test")
    app.config["SWITCHHOOK_MAX_BODY"] = LIMIT
    app.extensions[webhooks.EXTENSION] = Intake(SETTINGS, RING, directory, commits)
    app.register_blueprint(webhooks.blueprint)
    app.register_blueprint(canonical.blueprint)
    with app.test_client() as client:
        yield client


def counted(outcome: str) -> float:
    labels = {"provider": "canonical", "outcome": outcome}
    return metrics.REGISTRY.get_sample_value("switchhook_relay_ingress_requests_total", labels) or 0.0


@pytest.mark.parametrize("verdict", [Verdict.NEW, Verdict.REPEAT])
def test_an_analyzed_call_is_answered_with_its_id(client: FlaskClient, commits: Commits, verdict: Verdict) -> None:
    """As Canonical does, for a repeat too, once it is committed."""
    commits.verdict = verdict
    answer = client.post(PATH, data=retell_event("call_analyzed", 'call "1" \u00e9'), headers=KEY)
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert json.loads(answer.data) == {"callId": 'call "1" \u00e9'}
    assert len(commits.admissions) == 1
    assert commits.facts.trust == TRUST_KEY


@pytest.mark.parametrize(
    "body",
    [
        retell_event("call_started", "call_1"),
        retell_event("call_ended", "call_1"),
        b'{"event":"transfer_started","call":{"call_id":"call_1"}}',
        b'{"event":"chat_analyzed","chat":{"chat_id":"chat_1"}}',
        b'{"event":"of_tomorrow"}',
        b'{"event":"call_ended"}',  # what else is wrong with it does not matter
        b'{"event":"Call_Analyzed","call":{"call_id":"call_1"}}',
    ],
)
def test_other_events_are_answered_200_with_an_error_and_not_taken(
    client: FlaskClient, commits: Commits, body: bytes
) -> None:
    """Nothing of them is stored, and they are counted as what they are."""
    before = counted("event_ignored")
    answer = client.post(PATH, data=body, headers=KEY)
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.data == b'{"error":"event is not call_analyzed"}'
    assert commits.admissions == []
    assert counted("event_ignored") == before + 1


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "api_key_missing"),
        ({"X-Canonical-Api-Key": ""}, "api_key_missing"),
        ({"X-Canonical-Api-Key": "sk_live_2"}, "api_key_invalid"),
        ({"X-Canonical-Api-Key": "sk_live_1 x"}, "api_key_invalid"),
        ({"X-Canonical-Api-Key": "k" * 8_000}, "api_key_invalid"),
        ({"Authorization": "Bearer sk_live_1"}, "api_key_missing"),
        ({"X-Api-Key": "sk_live_1"}, "api_key_missing"),
    ],
)
@pytest.mark.parametrize("body", [retell_event("call_analyzed", "call_1"), retell_event("call_ended", "c"), b"{", b""])
def test_who_has_no_key_is_refused_before_the_body_is_looked_at(
    client: FlaskClient, commits: Commits, headers: dict[str, str], code: str, body: bytes
) -> None:
    """401, and nothing is told of what would be taken."""
    answer = client.post(PATH, data=body, headers=headers)
    assert (answer.status_code, json.loads(answer.data)["code"]) == (401, code)
    assert answer.content_type == "application/problem+json"
    assert commits.admissions == []


def test_retells_signature_proves_nothing_here(client: FlaskClient) -> None:
    """It is a source that has Retell's secret."""
    body = retell_event("call_analyzed", "call_1")
    assert client.post(PATH, data=body, headers=retell_headers(body, "secret")).status_code == 401


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", "body_not_json", None),
        (b"[]", "body_not_object", None),
        (b'{"event":"call_analyzed","call":{"call_id":"caf\xe9"}}', "body_not_utf8", None),
        (b"{}", "field_required", "event"),
        (b'{"event":null}', "field_required", "event"),
        (b'{"event":"call_analyzed"}', "field_required", "call.call_id"),
        (b'{"event":"call_analyzed","call":{"call_id":7}}', "field_required", "call.call_id"),
        (b'{"event":"call_analyzed","call":{"call_id":""}}', "fact_empty", "call.call_id"),
        (b'{"event":"call_analyzed","call":{"call_id":"%b"}}' % (b"c" * 257), "fact_too_long", "call.call_id"),
    ],
)
def test_names_what_is_wrong_with_a_body(client: FlaskClient, body: bytes, code: str, field: str | None) -> None:
    """400, with the field."""
    answer = client.post(PATH, data=body, headers=KEY)
    told = json.loads(answer.data)
    assert (answer.status_code, told["code"], told.get("field")) == (400, code, field)


def test_a_key_that_cannot_be_looked_up_is_unavailable_and_never_unknown(
    client: FlaskClient, directory: OneKey
) -> None:
    """The sender comes again; a 401 would make it give up."""
    directory.error = Unavailable("the configuration cannot be read at the moment")
    answer = client.post(PATH, data=retell_event("call_analyzed", "call_1"), headers=KEY)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


def test_what_cannot_be_stored_is_told_so(client: FlaskClient, commits: Commits) -> None:
    """503 with the time to come again, as on every route."""
    commits.error = OverQuota()
    answer = client.post(PATH, data=retell_event("call_analyzed", "call_1"), headers=KEY)
    assert (answer.status_code, json.loads(answer.data)["code"]) == (503, "over_quota")
    assert answer.headers["Retry-After"] == "60"


def test_bodies_have_the_limits_of_the_other_routes(client: FlaskClient) -> None:
    """413 over the limit, also for what looks like a recording, and 415 for what is compressed."""
    assert client.post(PATH, data=bytes(LIMIT + 1), headers=KEY).status_code == 413
    recording = b'{"type":"post_call_audio","data":"' + bytes(LIMIT)
    assert client.post(PATH, data=recording, headers=KEY).status_code == 413
    assert client.post(PATH, data=b"x", headers=KEY | {"Content-Encoding": "gzip"}).status_code == 415


def test_goes_to_the_whole_accounts_endpoints_by_their_filters(client: FlaskClient, commits: Commits) -> None:
    """And to billing. A source's endpoint gets nothing: there is no source."""
    client.post(PATH, data=retell_event("call_analyzed", "call_1"), headers=KEY)
    (admission,) = commits.admissions
    units = {(unit.lane, unit.key) for unit in admission.units}
    assert units == {(RELAY, "ep_wide"), (RELAY, "ep_analyzed"), (BILLING, "acc_1")}
    assert (commits.facts.source_id, commits.facts.template_id) == (None, None)


def test_goes_to_the_template_of_the_agent_as_well(client: FlaskClient, commits: Commits) -> None:
    """With the template's name in its facts, for the envelope."""
    client.post(PATH, data=retell_event("call_analyzed", "call_1", agent_id="agent_of_template"), headers=KEY)
    relayed = {unit.key for unit in commits.admissions[0].units if unit.lane == RELAY}
    assert relayed == {"ep_wide", "ep_analyzed", "ep_template"}
    assert (commits.facts.template_id, commits.facts.template_name) == (3, "Intake")


def test_is_the_same_conversation_as_by_a_source_and_another_event(client: FlaskClient, commits: Commits) -> None:
    """So it is delivered for each way it comes, under one session, and billed by one conversation."""
    body = retell_event("call_analyzed", "call_1")
    client.post(PATH, data=body, headers=KEY)
    keyed = commits.facts
    client.post(PATH, data=body + b" ", headers=KEY)
    again = commits.facts
    client.post(PATH + "/src_1", data=body, headers=retell_headers(body, "secret"))
    signed = commits.facts
    assert keyed.event_id == again.event_id != signed.event_id
    assert keyed.session_id == signed.session_id
    assert (keyed.call.provider, keyed.call.conversation_id) == (retell.NAME, "call_1")
    assert keyed.call == signed.call


def test_only_posts_are_taken(client: FlaskClient) -> None:
    """A browser that opens the address is told so."""
    for method in ("get", "put", "delete", "patch"):
        assert getattr(client, method)(PATH, headers=KEY).status_code == 405
