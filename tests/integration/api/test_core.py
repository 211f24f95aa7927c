"""What every operation gets from the core: proof, limits, validation, repeats. Over operations of the test's own."""

from __future__ import annotations

import base64
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from pydantic import Field
from sqlalchemy import update
from werkzeug.test import TestResponse

from relay.api.core import serving
from relay.api.core.access import Access
from relay.api.core.families import FAMILIES, OURS, Family
from relay.api.core.idempotency import Idempotency, Kept
from relay.api.core.limits import KEYS_WORTH, RateLimit, wait_seconds
from relay.api.core.models import Input, Output
from relay.api.core.operations import Call, Group
from relay.api.core.services import Services
from relay.errors import NotFound, RateLimited
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts
from relay.store.tables import api_keys
from relay.web import create_app
from tests.integration.api.conftest import OPERATOR_KEY, Api

MANY = 10_000


class Note(Input):
    """A body with one of each kind of field."""

    text: str
    count: Annotated[int, Field(ge=0, le=10)] = 0
    labels: dict[str, Any] = Field(default={})


class Made(Output):
    """An answer that shows a secret."""

    text: str
    secret: str


@dataclass
class Bench:
    """An application that serves only these operations, on the servers of the module."""

    api: Api
    client: FlaskClient
    services: Services
    made: Counter[str] = field(default_factory=Counter)
    pause: Callable[[], None] = lambda: None

    def key(self, **options: Any) -> tuple[str, str]:
        """A new key of the account, and its id."""
        with self.api.database.begin() as connection:
            made = accounts.create_key(connection, account_id=self.api.account.id, **options)
        return made.key, made.id

    def change_key(self, key_id: str, **values: Any) -> None:
        """Change the row of a key."""
        with self.api.database.begin() as connection:
            connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(values))

    def send(self, method: str, path: str, key: str | None = None, **options: Any) -> TestResponse:
        """A request on our own paths."""
        headers = {"Authorization": f"Bearer {key or self.api.account.key}"} | dict(options.pop("headers", {}))
        return self.client.open(path, method=method, headers=headers, **options)

    def note(self, text: str = "hello", *, repeat: str | None = None, key: str | None = None) -> TestResponse:
        """Make a note, with an Idempotency-Key or without."""
        headers = {} if repeat is None else {"Idempotency-Key": repeat}
        return self.send("POST", "/test/ours/notes", key, json={"text": text}, headers=headers)


def _serve(bench_of: list[Bench], family: Family) -> Group:
    group = Group(family, tag="Test")
    where = f"/test/{family.name}"

    @group.operation("GET", f"{where}/read", access=Access.READ, answers={200: dict[str, str]})
    def read(call: Call[None, None]) -> dict[str, str]:
        """Read."""
        return {"account": call.account_id}

    @group.operation("PUT", f"{where}/written", access=Access.WRITE, answers={200: dict[str, str]})
    def write(call: Call[None, None]) -> dict[str, str]:
        """Write."""
        return {"actor": call.caller.actor}

    @group.operation("GET", f"{where}/operated", access=Access.OPERATE, answers={200: dict[str, str]})
    def operate(call: Call[None, None]) -> dict[str, str]:
        """Operate."""
        return {"actor": call.caller.actor}

    @group.operation("POST", f"{where}/notes", access=Access.WRITE, body=Note, answers={201: Made})
    def make(call: Call[Note, None]) -> Made:
        """Make a note."""
        bench = bench_of[-1]
        bench.pause()
        bench.made[call.account_id] += 1
        if call.body.text == "nowhere":
            raise NotFound
        if call.body.text == "broken":
            raise RuntimeError
        return Made(text=call.body.text, secret=uuid.uuid4().hex)

    @group.operation("POST", f"{where}/others", access=Access.WRITE, body=Note, answers={201: Made})
    def make_other(call: Call[Note, None]) -> Made:
        """Make another thing."""
        return Made(text=call.body.text, secret=uuid.uuid4().hex)

    return group


@pytest.fixture(scope="module")
def bench_of() -> list[Bench]:
    """The bench of the test that runs."""
    return []


@pytest.fixture(scope="module")
def bare(
    api_settings: Settings, api_redis: redis.Redis, bench_of: list[Bench]
) -> Iterator[tuple[Flask, dict[str, Services]]]:
    """The application, and what its operations work with."""
    taken: dict[str, Services] = {}
    app = Flask("core")
    operations = [operation for family in FAMILIES for operation in _serve(bench_of, family).operations]

    def take(app_: Flask, operations_: Any, services: Services) -> None:
        # The real one's services, limited only where a test says so.
        taken["services"] = replace(services, limit=RateLimit(api_redis, per_minute=MANY))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relay.web.add_operations", take)
        create_app(api_settings)
    serving.add_operations(app, operations, taken["services"])
    yield app, taken
    taken["services"].database.close()


@pytest.fixture
def bench(api: Api, bare: tuple[Flask, dict[str, Services]], bench_of: list[Bench]) -> Iterator[Bench]:
    """The application with two new accounts."""
    app, taken = bare
    bench_of.append(Bench(api, app.test_client(), taken["services"]))
    yield bench_of[-1]
    bench_of.clear()


def _proof(family: Family, key: str, key_id: str) -> dict[str, str]:
    if family.name == "agora":
        return {"Authorization": "Basic " + base64.b64encode(f"{key_id}:{key}".encode()).decode()}
    if family.name == "elevenlabs":
        return {"xi-api-key": key}
    if family.name == "canonical":
        return {"X-Canonical-Api-Key": key}
    return {"Authorization": f"Bearer {key}"}


def _code(family: Family, answer: TestResponse) -> str:
    body = answer.get_json()
    if family.name == "agora":
        return str(body["reason"])
    return str(body["detail"]["status"] if family.name == "elevenlabs" else body["code"])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_keys_open_what_they_may(bench: Bench, family: Family) -> None:
    """On the paths of every system alike: reading, writing and operating are three different rights."""
    account, where = bench.api.account, f"/test/{family.name}"
    writing, reading = ((account.key, account.key_id), (account.reading_key, account.reading_key_id))
    operating = (OPERATOR_KEY, "key_operator")

    def status(method: str, path: str, key: tuple[str, str]) -> int:
        return bench.client.open(where + path, method=method, headers=_proof(family, *key)).status_code

    assert [status("GET", "/read", key) for key in (writing, reading, operating)] == [200, 200, 403]
    assert [status("PUT", "/written", key) for key in (writing, reading, operating)] == [200, 403, 403]
    assert [status("GET", "/operated", key) for key in (writing, reading, operating)] == [403, 403, 200]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_keys_that_open_nothing_are_told_apart(bench: Bench, family: Family) -> None:
    """None at all, unknown, revoked and expired: each in the words of the family, with a request id."""
    revoked, revoked_id = bench.key()
    expired, expired_id = bench.key()
    over, over_id = bench.key()
    now = datetime.now(UTC)
    bench.change_key(revoked_id, revoked_at=now)
    bench.change_key(expired_id, expires_at=now - timedelta(seconds=1))
    # As upkeep leaves it.
    bench.change_key(over_id, expires_at=now - timedelta(seconds=1), revoked_at=now - timedelta(seconds=1))
    answers = [
        bench.client.get(f"/test/{family.name}/read", headers=headers)
        for headers in (
            {},
            _proof(family, "sk_live_nobodys", "key_1"),
            _proof(family, "x" * 1000, "key_1"),
            _proof(family, "sk_\u00e4".encode().decode("latin-1"), "key_1"),
            _proof(family, revoked, revoked_id),
            _proof(family, expired, expired_id),
            _proof(family, over, over_id),
        )
    ]
    codes = {
        "agora": ["InvalidPermission"] * 7,
        "canaryllm": ["MISSING_API_KEY", *["INVALID_API_KEY"] * 3, "INACTIVE_KEY", *["EXPIRED_KEY"] * 2],
    }
    ours = ["api_key_missing", *["api_key_invalid"] * 3, "api_key_revoked", *["api_key_expired"] * 2]
    assert [_code(family, answer) for answer in answers] == codes.get(family.name, ours)
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 7


def test_agoras_key_id_must_be_that_of_the_key(bench: Bench) -> None:
    """Basic has two parts, and both are checked."""
    agora = next(family for family in FAMILIES if family.name == "agora")
    account = bench.api.account
    for key_id, status in ((account.key_id, 200), (account.reading_key_id, 401), ("key_1", 401), ("", 401)):
        answer = bench.client.get("/test/agora/read", headers=_proof(agora, account.key, key_id))
        assert answer.status_code == status


@pytest.mark.parametrize("header", ["Basic", "Basic $$$", "Basic /w==", "Basic OjE=", "Bearer", "bearer  ", "Token x"])
def test_what_is_no_credential_opens_nothing(bench: Bench, header: str) -> None:
    """Broken base64, no name, no token, another scheme."""
    for family in ("agora", "ours", "canaryllm"):
        answer = bench.client.get(f"/test/{family}/read", headers={"Authorization": header})
        assert answer.status_code == 401


# Limits


@pytest.fixture
def slow(api_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    """The whole application with a limit of three requests a minute."""
    taken: list[Services] = []

    def take(app: Flask, operations: Any, services: Services) -> None:
        taken.append(services)
        serving.add_operations(app, operations, services)

    monkeypatch.setattr("relay.web.add_operations", take)
    yield create_app(replace(api_settings, requests_per_minute=3)).test_client()
    taken[0].database.close()


def test_a_key_that_asks_too_often_is_told_when_to_go_on(slow: FlaskClient, api: Api) -> None:
    """429 with Retry-After; another key of the account goes on."""
    mine, others = ({"X-API-Key": key} for key in (api.account.key, api.account.reading_key))
    answers = [slow.get("/api/v1/endpoints", headers=mine) for _ in range(8)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert [answer.status_code for answer in answers[:3]] == [200, 200, 200]
    # A minute that ends meanwhile lets one more through, not three.
    assert len(refused) >= 4
    assert refused[-1].get_json()["code"] == "rate_limited"
    assert 1 <= int(refused[-1].headers["Retry-After"]) <= 100
    assert slow.get("/api/v1/endpoints", headers=others).status_code == 200


def test_an_account_has_a_limit_over_all_its_keys(slow: FlaskClient, api: Api) -> None:
    """Five keys' worth, however many keys it makes; another account goes on."""
    keys = [api.account.key, api.account.reading_key]
    with api.database.begin() as connection:
        keys += [accounts.create_key(connection, account_id=api.account.id).key for _ in range(18)]
    answers = [slow.get("/api/v1/endpoints", headers={"X-API-Key": key}) for key in keys for _ in range(2)]
    statuses = [answer.status_code for answer in answers]
    assert statuses[: 3 * KEYS_WORTH] == [200] * 3 * KEYS_WORTH
    # Without this limit all forty would go through; a minute that ends meanwhile lets some more.
    assert statuses.count(429) >= 10
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 100
    assert slow.get("/api/v1/endpoints", headers={"X-API-Key": api.other.key}).status_code == 200


def test_webhooks_of_providers_are_never_limited(slow: FlaskClient, api: Api) -> None:
    """They come as often as people call."""
    body = {"event": "call_analyzed", "call": {"call_id": "c", "duration_ms": 1000}}
    for number in range(6):
        body["call"] = {"call_id": f"c{number}", "duration_ms": 1000}
        answer = slow.post("/api/v1/webhooks/retell", json=body, headers={"X-Canonical-Api-Key": api.account.key})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("spent", "before", "passed", "wait"),
    [
        (0, 0, 0.0, 0),  # nothing was asked
        (2, 0, 10.0, 0),  # the third of three
        (3, 0, 10.0, 70),  # the fourth: this minute's 50 s, and 20 s until the first of them lies behind
        (3, 0, 59.0, 21),
        (0, 3, 0.0, 20),  # the minute is new, and the three of the last one have only just been
        (0, 3, 20.0, 0),
        (0, 3, 19.5, 1),  # whole seconds, rounded up
        (1, 3, 30.0, 10),  # one more needs two thirds of the last minute behind it
        (2, 3, 30.0, 30),
        (0, 1000, 0.0, 60),  # whatever was let through before: a minute later it is over
    ],
)
def test_waits_until_a_request_fits(spent: int, before: int, passed: float, wait: int) -> None:
    """Of three a minute, counted over the last sixty seconds."""
    assert wait_seconds(spent, before, passed, per_minute=3) == wait


def test_what_was_refused_does_not_count(bench: Bench) -> None:
    """Whoever goes on asking is not let in later for it."""
    limit = RateLimit(bench.api.redis, per_minute=1)
    key_id, account_id = uuid.uuid4().hex, uuid.uuid4().hex
    for _ in range(20):
        with suppress(RateLimited):
            limit.spend(key_id, account_id)
    for who in (key_id, account_id):
        counts: Any = [bench.api.redis.get(name) for name in bench.api.redis.scan_iter(match=f"sw:rate:{who}:*")]
        assert 1 <= sum(int(count) for count in counts) <= 2  # two if a minute has ended meanwhile


# What works at once


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_an_account_that_has_too_many_requests_under_way_is_told_to_come_again(bench: Bench, family: Family) -> None:
    """503 at once in the family's words, with Retry-After 1; another account, and the same one afterwards, go on."""
    account, other, where = bench.api.account, bench.api.other, f"/test/{family.name}/read"
    gates, mine = bench.services.gates, _proof(family, account.key, account.key_id)
    with ExitStack() as inside:
        for _ in range(gates.accounts.each):
            inside.enter_context(gates.accounts.passed(account.id))
        refused = bench.client.get(where, headers=mine)
        theirs = bench.client.get(where, headers=_proof(family, other.key, other.key_id))
    codes = {"agora": "ServiceUnavailable", "canaryllm": "API_BUSY"}
    assert (refused.status_code, _code(family, refused)) == (503, codes.get(family.name, "api_busy"))
    assert refused.headers["Retry-After"] == "1"
    assert theirs.status_code == 200
    assert bench.client.get(where, headers=mine).status_code == 200


def test_who_is_refused_is_not_looked_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Postgres that hangs would hold a thread for each; nor does it count as a request."""
    key = bench.api.account.key
    with ExitStack() as inside:
        for _ in range(bench.services.gates.arrivals.each):
            inside.enter_context(bench.services.gates.arrived(key))
        with monkeypatch.context() as patch:
            patch.setattr(accounts, "opened_by", None)
            patch.setattr(RateLimit, "spend", None)
            assert bench.send("GET", "/test/ours/read").get_json()["code"] == "api_busy"
    assert bench.send("GET", "/test/ours/read").status_code == 200


def test_who_is_refused_may_come_again_with_the_same_key_for_repeats(bench: Bench) -> None:
    """Nothing was done, and nothing is remembered."""
    gates = bench.services.gates
    with ExitStack() as inside:
        for _ in range(gates.accounts.each):
            inside.enter_context(gates.accounts.passed(bench.api.account.id))
        assert bench.note(repeat="k").status_code == 503
    assert bench.note(repeat="k").status_code == 201


# Repeats


def test_a_repeat_gets_the_first_answer(bench: Bench) -> None:
    """With the secret that was shown once, and nothing happens again; another key of the account is the same caller."""
    first = bench.note(repeat="a b")
    again = bench.note(repeat="a b", key=bench.key()[0])
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.get_data() == first.get_data()
    assert (first.headers.get("Idempotent-Replayed"), again.headers.get("Idempotent-Replayed")) == (None, "true")
    assert first.headers["X-Request-Id"] != again.headers["X-Request-Id"]
    assert bench.made == {bench.api.account.id: 1}


def test_without_a_key_everything_happens_again(bench: Bench) -> None:
    """Two requests are two requests."""
    assert bench.note().get_json() != bench.note().get_json()
    assert bench.made.total() == 2


def test_a_key_belongs_to_one_request(bench: Bench) -> None:
    """Another body or another path is 422, and nothing happens."""
    bench.note("one", repeat="k")
    other_body = bench.note("two", repeat="k")
    other_path = bench.send("POST", "/test/ours/others", json={"text": "one"}, headers={"Idempotency-Key": "k"})
    for answer in (other_body, other_path):
        assert (answer.status_code, answer.get_json()["code"]) == (422, "idempotency_key_reused")
    assert bench.made.total() == 1


def test_a_key_belongs_to_one_account(bench: Bench) -> None:
    """Two customers may choose the same word, and see nothing of each other."""
    mine, theirs = bench.note(repeat="k"), bench.note(repeat="k", key=bench.api.other.key)
    assert (mine.status_code, theirs.status_code) == (201, 201)
    assert mine.get_json()["secret"] != theirs.get_json()["secret"]


def test_a_reading_key_cannot_have_the_answer_again(bench: Bench) -> None:
    """The secret in it is for those who may make one."""
    bench.note(repeat="k")
    assert bench.note(repeat="k", key=bench.api.account.reading_key).status_code == 403


def test_a_second_request_while_the_first_runs_is_refused(bench: Bench) -> None:
    """409, and the first one's answer afterwards."""
    started, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        started.set()
        assert go_on.wait(10)

    bench.pause = pause
    first: list[TestResponse] = []
    thread = threading.Thread(target=lambda: first.append(bench.note(repeat="k")))
    thread.start()
    assert started.wait(10)
    meanwhile = bench.note(repeat="k")
    go_on.set()
    thread.join(10)
    assert (meanwhile.status_code, meanwhile.get_json()["code"]) == (409, "idempotency_key_in_use")
    assert bench.note(repeat="k").get_data() == first[0].get_data()
    assert bench.made.total() == 1


@pytest.mark.parametrize(("text", "status"), [("nowhere", 404), ("broken", 500)])
def test_what_failed_is_not_kept(bench: Bench, text: str, status: int) -> None:
    """It may be tried again with the same key."""
    assert [bench.note(text, repeat="k").status_code for _ in range(2)] == [status, status]
    assert bench.made.total() == 2
    assert bench.send("POST", "/test/ours/notes", json={"no": 1}, headers={"Idempotency-Key": "k"}).status_code == 400
    assert bench.note(repeat="k").status_code == 201


@pytest.mark.parametrize("key", ["", "k" * 256, "t\u00e4g".encode().decode("latin-1"), "a\tb"])
def test_a_key_that_is_none_is_refused(bench: Bench, key: str) -> None:
    """1 to 255 printable ASCII characters."""
    answer = bench.note(repeat=key)
    assert (answer.status_code, answer.get_json()["field"]) == (400, "Idempotency-Key")
    assert bench.made.total() == 0


def test_answers_are_kept_sealed(bench: Bench) -> None:
    """Redis holds no secret that was shown."""
    secret = bench.note(repeat="k").get_json()["secret"].encode()
    kept: list[Any] = [bench.api.redis.get(name) for name in bench.api.redis.scan_iter(match="sw:idempotency:*")]
    assert kept
    assert [value for value in kept if secret in value] == []


def test_what_was_done_is_told_even_if_it_cannot_be_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, api_settings: Settings
) -> None:
    """A caller who was told 503 would do it twice."""
    client = bench.api.redis
    idempotency = Idempotency(client, KeyRing(api_settings.keys))
    kept = Kept(b"f", 201, {}, b"{}")

    def done() -> Kept:
        monkeypatch.setattr(client, "set", _refused)
        return kept

    assert idempotency.once(bench.api.account.id, "k", b"f", done) == (kept, False)


def _refused(*_: Any, **__: Any) -> None:
    raise redis.ConnectionError


# Validation


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param(b'{"text":"a\\u0000b"}', "text", id="NUL"),
        pytest.param(b'{"text":"\\ud800"}', "text", id="lone surrogate"),
        pytest.param(b'{"text":"x","labels":{"a":[{"b":"\\u0000"}]}}', "labels", id="NUL below"),
        pytest.param(b'{"text":"x","labels":{"a\\u0000":1}}', "labels", id="NUL in a name"),
        pytest.param(b'{"text":"x","labels":{"a":NaN}}', "labels", id="not a number"),
        pytest.param(b'{"text":"x","labels":{"a":1e999}}', "labels", id="infinity"),
        pytest.param(b'{"text":"x","count":11}', "count", id="out of range"),
        pytest.param(b'{"text":"x","count":"1"}', "count", id="a number as text"),
        pytest.param(b'{"text":"x","count":true}', "count", id="a boolean as a number"),
        pytest.param(b'{"text":7}', "text", id="wrong type"),
        pytest.param(b"{}", "text", id="missing"),
        pytest.param(b"", "text", id="no body"),
        pytest.param(b'{"text":"x","txet":"y"}', "txet", id="unknown field"),
        pytest.param(b'{"text":"x","a\\u0007b":"y"}', "a\\x07b", id="unknown field that does not print"),
        pytest.param(b"null", None, id="null"),
        pytest.param(b"[]", None, id="a list"),
        pytest.param(b"{", None, id="cut"),
        pytest.param(b'{"text":"x"} {}', None, id="more behind it"),
        pytest.param(b"\xff\xfe", None, id="not UTF-8"),
        pytest.param(b'{"text":"\xff"}', None, id="not UTF-8 inside"),
        pytest.param(b"[" * 500_000, None, id="deep"),
        pytest.param(b'{"text":"x","labels":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001, None, id="deep inside"),
        pytest.param(b'{"text":"x","count":' + b"9" * 100_000 + b"}", None, id="a huge number"),
    ],
)
def test_a_wrong_body_is_refused_by_its_field(bench: Bench, body: bytes, field: str | None) -> None:
    """400 names the field as far as there is one, and quotes nothing of it."""
    answer = bench.send("POST", "/test/ours/notes", data=body, content_type="application/json")
    problem = answer.get_json()
    assert (answer.status_code, problem["code"]) == (400, "validation_error")
    assert answer.content_type == "application/problem+json"
    assert problem.get("field") == field
    assert [issue["path"] for issue in problem["issues"]] == [field or ""]
    assert bench.made.total() == 0


def test_every_wrong_field_is_named(bench: Bench) -> None:
    """At once, so that one correction is enough; at most twenty."""
    answer = bench.send("POST", "/test/ours/notes", json={"count": -1, "labels": 1, "x": 1})
    assert [issue["path"] for issue in answer.get_json()["issues"]] == ["text", "count", "labels", "x"]
    many = bench.send("POST", "/test/ours/notes", json={f"x{number}": 1 for number in range(1000)})
    assert len(many.get_json()["issues"]) == 20


def test_a_body_of_more_than_a_mebibyte_is_too_large(bench: Bench) -> None:
    """413 beyond, and one byte less is read."""
    whole = b'{"text":"x"' + b" " * (1024 * 1024 - 12) + b"}"
    assert bench.send("POST", "/test/ours/notes", data=whole).status_code == 201
    refused = bench.send("POST", "/test/ours/notes", data=whole + b" ")
    assert (refused.status_code, refused.get_json()["code"]) == (413, "body_too_large")


def test_a_compressed_body_is_refused(bench: Bench) -> None:
    """415: nothing is unpacked here."""
    answer = bench.send("POST", "/test/ours/notes", data=b"x", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415


def test_an_unexpected_error_tells_nothing(bench: Bench) -> None:
    """500 in the family's words, and the request's id to ask by."""
    answer = bench.note("broken")
    assert (answer.status_code, answer.get_json()["code"]) == (500, "internal_error")
    assert answer.headers["X-Request-Id"].startswith("req_")


# The hot path


def test_using_a_key_is_noted(bench: Bench) -> None:
    """To the minute: a second request soon after writes nothing."""
    _, key_id = key = bench.key()
    bench.send("GET", "/test/ours/read", key[0])
    with bench.api.database.begin() as connection:
        first = accounts.key(connection, account_id=bench.api.account.id, key_id=key_id).last_used_at
    bench.send("GET", "/test/ours/read", key[0])
    with bench.api.database.begin() as connection:
        again = accounts.key(connection, account_id=bench.api.account.id, key_id=key_id).last_used_at
    assert first is not None
    assert again == first


def test_the_family_of_ours_is_served(bench: Bench) -> None:
    """A guard of the table above: these are all the families that there are."""
    assert OURS in FAMILIES
    assert {family.name for family in FAMILIES} == {
        "ours",
        "canaryllm",
        "agora",
        "elevenlabs",
        "canonical",
        "conversations",
        "retell",
    }
