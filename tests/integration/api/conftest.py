"""The API in this process, over real Redis and Postgres: one application for a module, two new accounts for a test."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import redis
from flask import Flask, request
from flask.testing import FlaskClient
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from relay.api.core.gates import Gates
from relay.connections import postgres_engine
from relay.connections import redis_client as connect_redis
from relay.delivery.guard import resolve_checked
from relay.demo.embedded import EmbeddedPostgres, EmbeddedRedis
from relay.directory import Directory, Mirror
from relay.providers.rest.client import Rest
from relay.provisioning import changes
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts
from relay.store.database import Database
from relay.web import close, create_app
from tests.fakes.elevenlabs import FakeElevenLabs
from tests.receiver import Receiver, receiving
from workers.deliver import DeliveryThread

OPERATOR_KEY = "op_" + "k" * 40


@dataclass(frozen=True, slots=True)
class Customer:
    """An account, a key that may change things, and one that may only read."""

    id: str
    key: str
    key_id: str
    reading_key: str
    reading_key_id: str


@dataclass(frozen=True, slots=True)
class Api:
    """Sends requests as one account."""

    client: FlaskClient
    database: Database
    redis: redis.Redis
    settings: Settings
    account: Customer
    other: Customer
    operator_key: str = OPERATOR_KEY

    def call(self, method: str, path: str, body: Any = None, *, key: str | None = None, **options: Any) -> TestResponse:
        """One request with a key (the account's own unless another is given; empty: none)."""
        credential = self.account.key if key is None else key
        headers = dict(options.pop("headers", {}))
        if credential:
            headers.setdefault("Authorization", f"Bearer {credential}")
        return self.client.open(path, method=method, json=body, headers=headers, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        """GET."""
        return self.call("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        """POST."""
        return self.call("POST", path, body, **options)

    def put(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        """PUT."""
        return self.call("PUT", path, body, **options)

    def patch(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        """PATCH."""
        return self.call("PATCH", path, body, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        """DELETE."""
        return self.call("DELETE", path, **options)

    def grant(self, provider: str, object_id: str, *, to: Customer | None = None) -> None:
        """Have the operator let an account (its own unless another is given) use an agent, or a project of Agora."""
        path = f"/api/v1/accounts/{(to or self.account).id}/grants/{provider}/{object_id}"
        assert self.put(path, key=self.operator_key).status_code == 200


@pytest.fixture(scope="module")
def api_settings(
    embedded_redis: EmbeddedRedis,
    embedded_postgres: EmbeddedPostgres,
    migrated_template: str,
    redis_numbers: Iterator[int],
) -> Iterator[Settings]:
    """Servers of the module's own. A module may override this to point at fakes of providers."""
    number = next(redis_numbers)
    name = f"api_{number}_{os.urandom(4).hex()}"
    url = embedded_postgres.create_database(name, template=migrated_template)
    environ = {
        "DATABASE_URL": url,
        "REDIS_URL": embedded_redis.url_of(number),
        "SWITCHHOOK_KEYS": base64.b64encode(os.urandom(32)).decode("ascii"),
        "SWITCHHOOK_ALLOW_HTTP": "1",
        "SWITCHHOOK_EGRESS_ALLOW": "127.0.0.0/8",
    }
    yield replace(Settings.from_environ(environ), operator_key=OPERATOR_KEY)
    embedded_postgres.drop_database(name)


@pytest.fixture(scope="module")
def api_redis(api_settings: Settings) -> Iterator[redis.Redis]:
    """A client of the application's Redis database, emptied first."""
    with connect_redis(api_settings) as client:
        client.flushdb()
        yield client


@pytest.fixture(scope="module")
def api_database(api_settings: Settings) -> Iterator[Database]:
    """The application's database."""
    database = Database(postgres_engine(api_settings))
    yield database
    database.close()


@pytest.fixture(scope="module")
def api_app(api_settings: Settings, api_redis: redis.Redis) -> Iterator[Flask]:
    """The application."""
    app = create_app(api_settings)
    yield app
    close(app)


@pytest.fixture(autouse=True)
def _others_are_waited_for_behind_the_gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every operation that calls a provider, or looks at the URL of a customer, is declared as one that may be slow."""
    inside: list[bool] = []
    undeclared: list[str] = []
    admitted, fetch, resolve = Gates.admitted, Rest.fetch, resolve_checked

    @contextmanager
    def noted(gates: Gates, account_id: str, *, is_slow: bool) -> Iterator[None]:
        inside.append(is_slow)
        try:
            with admitted(gates, account_id, is_slow=is_slow):
                yield
        finally:
            inside.pop()

    def waited_for(what: Any) -> Any:
        def called(*given: Any, **options: Any) -> Any:
            undeclared.extend(request.path for is_slow in inside[-1:] if not is_slow)
            return what(*given, **options)

        return called

    monkeypatch.setattr(Gates, "admitted", noted)
    monkeypatch.setattr(Rest, "fetch", waited_for(fetch))
    monkeypatch.setattr(changes, "resolve_checked", waited_for(resolve))
    yield
    assert undeclared == [], "declare it as is_slow"


@pytest.fixture(scope="module")
def served(api_app: Flask) -> Iterator[str]:
    """The application on a port, for official clients; the base URL."""
    server = make_server("127.0.0.1", 0, api_app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def eleven() -> Iterator[FakeElevenLabs]:
    """ElevenLabs, for modules whose `api_settings` point at it."""
    with FakeElevenLabs() as fake:
        yield fake


@pytest.fixture
def api(api_app: Flask, api_settings: Settings, api_database: Database, api_redis: redis.Redis) -> Api:
    """The API with two new accounts."""
    mirror = Mirror(api_redis, KeyRing(api_settings.keys))
    account, other = (_customer(api_database, mirror, name) for name in ("Ours", "Another"))
    return Api(api_app.test_client(), api_database, api_redis, api_settings, account, other)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A customer's server."""
    with receiving() as made:
        yield made


@pytest.fixture
def courier(api: Api) -> Iterator[DeliveryThread]:
    """The relay lane of a worker."""
    ring = KeyRing(api.settings.keys)
    directory = Directory(Mirror(api.redis, ring), ring, api.database)
    thread = DeliveryThread(api.settings, ring, directory, on_settled=lambda: None, on_more=lambda: None)
    thread.start()
    yield thread
    thread.stop()
    thread.join()


def _customer(database: Database, mirror: Mirror, name: str) -> Customer:
    with database.begin() as connection:
        account = accounts.create(connection, name=name)
        key = accounts.create_key(connection, account_id=account.id)
        reading = accounts.create_key(connection, account_id=account.id, can_write=False)
    mirror.publish(database, account.id)
    return Customer(account.id, key.key, key.id, reading.key, reading.id)
