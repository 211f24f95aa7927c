"""What operators and platforms ask of a running process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.demo.embedded import EmbeddedPostgres, Scratch
from tests.customers import Customer
from tests.payloads import retell_event, retell_headers
from tests.receiver import Receiver
from tests.stack import METRICS_TOKEN, Stack, fresh_stack
from tests.waiting import eventually

FAMILIES = {
    "switchhook_relay_ingress_requests_total": "counter",
    "switchhook_relay_accept_seconds": "histogram",
    "switchhook_relay_delivery_attempts_total": "counter",
    "switchhook_relay_delivery_attempt_seconds": "histogram",
    "switchhook_relay_delivery_lag_seconds": "histogram",
    "switchhook_relay_outbox_waiting": "gauge",
    "switchhook_relay_outbox_oldest_age_seconds": "gauge",
    "switchhook_relay_endpoints_disabled": "gauge",
    "switchhook_billing_rated_seconds_total": "counter",
    "switchhook_billing_charges_total": "counter",
    "switchhook_billing_unrated_total": "counter",
    "switchhook_unaccounted_events": "gauge",
}


@pytest.fixture
def web_alone(scratch: Scratch, embedded_postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Stack]:
    """A web process on a Redis that a test may stop."""
    with fresh_stack(scratch, embedded_postgres, logs=tmp_path) as stack:
        stack.start("web")
        yield stack


def test_answers_that_it_lives_and_is_ready(stack: Stack) -> None:
    """Both are open to anyone and say nothing else."""
    assert [(stack.get(path).status_code, stack.get(path).text) for path in ("/livez", "/readyz")] == [
        (200, "ok\n"),
        (200, "ok\n"),
    ]


def test_is_alive_but_not_ready_without_redis(web_alone: Stack) -> None:
    """A platform takes it out of the rotation, does not restart it, and takes it back when Redis is there again."""
    web_alone.redis_server.stop()

    assert web_alone.get("/readyz").status_code == 503
    assert web_alone.get("/livez").status_code == 200
    web_alone.redis_server.start()
    eventually(lambda: web_alone.get("/readyz").ok, within_seconds=5, what="ready again")


def test_shows_the_documented_metrics(stack: Stack) -> None:
    """Every family of the documentation is there under its name and type."""
    exposed = stack.get("/metrics", {"Authorization": f"Bearer {METRICS_TOKEN}"}).text
    types = dict(line.split()[2:4] for line in exposed.splitlines() if line.startswith("# TYPE"))

    assert {name: types.get(name) for name in FAMILIES} == FAMILIES
    assert all(name.startswith(("switchhook_relay_", "switchhook_billing_")) or name in FAMILIES for name in types)


def test_counts_where_every_accepted_unit_is(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """Accepted is delivered, dead, lost or waiting; the difference is shown, and is none."""
    source = customer.source("retell", relay_url=receiver.url)
    before = stack.scrape()
    body = retell_event("call_ended", "call_1")

    stack.post(source.url, body, retell_headers(body, source.secret))
    stack.await_settled(customer)

    after = stack.scrape()
    assert after["switchhook_unaccounted_events"] == 0
    # Two units: the delivery and the charge, each accepted once and delivered once.
    assert after["switchhook_relay_units"] == before["switchhook_relay_units"] + 4
    assert after["switchhook_relay_ingress_requests_total"] > before.get("switchhook_relay_ingress_requests_total", 0)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {METRICS_TOKEN}"}, {"Authorization": "Bearer "}],
    ids=["none", "wrong", "basic", "empty"],
)
def test_shows_metrics_only_for_the_token(stack: Stack, headers: dict[str, str]) -> None:
    """Anything but the bearer token is 401."""
    answer = stack.get("/metrics", headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "metrics_token_invalid")
