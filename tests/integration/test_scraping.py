"""Scrapes of one process: its own port, and web's page when Redis does not answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import requests
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from relay.errors import SettingsError
from relay.settings import Settings
from relay.telemetry import logs
from relay.telemetry.port import OwnPort, check, serve
from relay.web import create_app

TOKEN = "token-for-scrapes"
SETTINGS = Settings(
    database_url="postgresql+psycopg://nobody@localhost/nowhere",
    redis_url="redis://127.0.0.1:1",
    keys="k" * 32,
    host="127.0.0.1",
    metrics_token=TOKEN,
)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as it:
        yield it


@pytest.fixture
def taken(listener: socket.socket) -> Settings:
    """The settings of a process whose port somebody else has."""
    return replace(SETTINGS, metrics_port=listener.getsockname()[1])


# -- a port of its own


@pytest.fixture
def own_port() -> Iterator[str]:
    """The URL of a process' own port."""
    server = OwnPort(SETTINGS)  # port 0: any that is free
    server.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def get(url: str, **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, headers=headers, timeout=5)


def test_serves_what_this_process_counts(own_port: str) -> None:
    """Whoever asks every process needs no label that tells them apart."""
    answer = get(f"{own_port}/metrics", Authorization=f"Bearer {TOKEN}")
    families = list(text_string_to_metric_families(answer.text))

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert {"switchhook_relay_delivery_attempts", "switchhook_relay_process_open_fds"} <= {one.name for one in families}
    assert "switchhook_unaccounted_events" not in answer.text
    assert not any("process" in sample.labels for family in families for sample in family.samples)
    assert "Python" not in answer.headers["Server"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/metrics", {}, 401),
        ("/metrics", {"Authorization": "Bearer wrong"}, 401),
        ("/", {"Authorization": f"Bearer {TOKEN}"}, 404),
        ("/readyz", {}, 404),
    ],
)
def test_serves_nothing_else_and_nobody_without_the_token(
    own_port: str, path: str, headers: dict[str, str], status: int
) -> None:
    """As web's /metrics."""
    answer = get(own_port + path, **headers)
    assert answer.status_code == status
    assert "switchhook_relay_" not in answer.text
    if status == 401:
        assert answer.json()["code"] == "metrics_token_invalid"


@pytest.mark.parametrize("begin", [serve, check])
def test_a_taken_port_is_told_by_the_variable(taken: Settings, begin: Any) -> None:
    """At start, so that nobody scrapes another process by mistake."""
    with pytest.raises(SettingsError, match=r"SWITCHHOOK_METRICS_PORT .* cannot be used"):
        begin(taken)


def test_several_servers_cannot_have_one_port(taken: Settings, listener: socket.socket) -> None:
    """A scrape would reach any of them."""
    listener.close()
    check(taken)
    with pytest.raises(SettingsError, match="WEB_CONCURRENCY"):
        check(replace(taken, web_concurrency=2))


def test_no_port_is_opened_unless_it_is_asked_for() -> None:
    """0 means none, not any."""
    serve(replace(SETTINGS, host="not an address"))
    check(replace(SETTINGS, host="not an address", web_concurrency=2))


# -- web without Redis


def connections(listener: socket.socket) -> int:
    """How many have been made to a server that has accepted none yet."""
    listener.setblocking(False)
    accepted: list[socket.socket] = []
    with suppress(BlockingIOError):
        while True:
            accepted.append(listener.accept()[0])
    for one in accepted:
        one.close()
    return len(accepted)


@pytest.fixture
def app(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """web on a Redis that has stopped answering."""
    monkeypatch.setattr(logs, "configure", lambda _level: None)
    return create_app(replace(SETTINGS, redis_url=f"redis://127.0.0.1:{listener.getsockname()[1]}", dyno="web.1"))


def test_answers_a_scrape_while_redis_hangs(app: Flask, listener: socket.socket) -> None:
    """After one timeout, with what this process counts and a gauge that says why there is no more."""
    answer = app.test_client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})

    assert connections(listener) == 1  # each that times out is closed, and another question would make the next
    assert answer.status_code == 200
    samples = [s for family in text_string_to_metric_families(answer.text) for s in family.samples]
    shown = {sample.name: sample.value for sample in samples if "process" not in sample.labels}
    assert shown == {"switchhook_relay_redis_up": 0.0}
    (memory,) = (s for s in samples if s.name == "switchhook_relay_process_resident_memory_bytes")
    assert memory.labels["process"].startswith("web@web.1:")
