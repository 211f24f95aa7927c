"""One scrape of web shows every process of the system, as on platforms where only web can be reached."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from relay.outbox import Outbox
from relay.telemetry.exchange import INDEX, LIFETIME, key
from relay.telemetry.publisher import PUBLISH_SECONDS
from tests.customers import Customer
from tests.payloads import retell_event, retell_headers
from tests.processes import READY_SECONDS, ManagedProcess, switchhook
from tests.receiver import Receiver
from tests.stack import METRICS_TOKEN, Stack, free_port
from tests.waiting import eventually

BEARER = {"Authorization": f"Bearer {METRICS_TOKEN}"}
# After its next publish at the latest, on a machine that has other work.
SEEN_SECONDS = PUBLISH_SECONDS + 10.0


def scrape(stack: Stack) -> list[Sample]:
    """The samples of web's /metrics."""
    text = stack.get("/metrics", BEARER).text
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def processes(stack: Stack) -> set[str]:
    """The processes that a scrape shows."""
    return {sample.labels["process"] for sample in scrape(stack) if "process" in sample.labels}


def send(stack: Stack, customer: Customer, receiver: Receiver, call_id: str) -> str:
    """A webhook on its way to the receiver; the id of the endpoint that it is for."""
    source = customer.source("retell", relay_url=receiver.url)
    body = retell_event("call_ended", call_id)
    assert stack.post(source.url, body, retell_headers(body, source.secret)).status_code == 200
    assert source.endpoint is not None
    return source.endpoint.id


@pytest.fixture
def recorder(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ManagedProcess, str]]:
    """One more worker, on a platform that calls it worker.7, and the URL of its own port."""
    port = free_port()
    monkeypatch.setitem(stack.env, "DYNO", "worker.7")
    monkeypatch.setitem(stack.env, "SWITCHHOOK_METRICS_PORT", str(port))
    process = stack.spawn("worker", "--lanes", "record")
    process.await_event("worker_ready")
    yield process, f"http://127.0.0.1:{port}/metrics"
    process.kill()


def test_one_scrape_shows_what_web_worker_and_beat_count(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """A delivery that a worker made is counted on web's page, under the worker's name; the outbox is shown once."""
    send(stack, customer, receiver, "call_scraped")
    stack.await_settled(customer)

    def attempts() -> list[Sample]:
        return [
            sample
            for sample in scrape(stack)
            if sample.name == "switchhook_relay_delivery_attempts_total" and sample.labels["outcome"] == "delivered"
        ]

    (delivered,) = eventually(attempts, within_seconds=SEEN_SECONDS, what="the worker's attempts")
    assert delivered.value >= 1
    assert delivered.labels["process"].startswith("worker@")

    def kinds() -> set[str]:
        return {name.split("@")[0] for name in processes(stack)}

    # Nobody has waited for beat to be ready.
    eventually(lambda: kinds() == {"web", "worker", "beat"}, within_seconds=SEEN_SECONDS, what="one of each kind")
    shown = scrape(stack)
    assert [s.labels for s in shown if s.name == "switchhook_unaccounted_events"] == [{}]
    assert sorted(s.labels["lane"] for s in shown if s.name == "switchhook_relay_outbox_waiting") == [
        "billing",
        "recordings",
        "relay",
    ]
    running = {s.labels["kind"]: s.value for s in shown if s.name == "switchhook_relay_processes"}
    assert set(running) == {"web", "worker", "beat"}
    assert min(running.values()) >= 1


def test_a_killed_worker_leaves_the_page(stack: Stack, recorder: tuple[ManagedProcess, str]) -> None:
    """It is shown under its platform's name until its samples end, and not as if it still ran."""
    process, _ = recorder
    name = f"worker@worker.7:{process.pid}"
    eventually(lambda: name in processes(stack), within_seconds=SEEN_SECONDS, what="the new worker")

    process.kill()

    left_ms = stack.redis.pttl(key(name))
    assert 0 < left_ms <= LIFETIME.total_seconds() * 1000
    assert stack.redis.pexpire(key(name), 1)  # instead of waiting for that long
    eventually(lambda: name not in processes(stack), within_seconds=2, what="the killed worker's end on the page")
    assert stack.redis.zscore(INDEX, name) is None


def test_a_worker_that_stops_in_an_orderly_way_publishes_a_last_time(
    stack: Stack, recorder: tuple[ManagedProcess, str]
) -> None:
    """Its samples have their whole lifetime left, whenever it last published."""
    process, _ = recorder
    name = f"worker@worker.7:{process.pid}"
    eventually(lambda: name in processes(stack), within_seconds=SEEN_SECONDS, what="the new worker")
    stack.redis.delete(key(name))
    process.terminate()
    assert process.wait() == 0
    assert stack.redis.exists(key(name))


def test_a_worker_shows_itself_on_a_port_of_its_own(stack: Stack, recorder: tuple[ManagedProcess, str]) -> None:
    """To the bearer of the token; a second process with the same port is refused at start, by the variable's name."""
    _, url = recorder
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(url, timeout=5).status_code == 401
        answer = session.get(url, headers=BEARER, timeout=5)
    assert "switchhook_relay_outcomes_recorded_total" in answer.text
    assert 'process="' not in answer.text

    refused = switchhook("beat", env=stack.env)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: SWITCHHOOK_METRICS_PORT ")
    assert len(refused.stderr.splitlines()) == 1


def test_every_server_process_of_web_is_shown(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape reaches one of them; the others are shown from what they published."""
    port = str(free_port())
    monkeypatch.setitem(stack.env, "PORT", port)
    monkeypatch.setitem(stack.env, "WEB_CONCURRENCY", "2")
    monkeypatch.setitem(stack.env, "DYNO", "web.5")
    web = stack.spawn("web")
    try:

        def servers() -> bool:
            return sum(name.startswith("web@web.5:") for name in processes(stack)) == 2

        eventually(servers, within_seconds=READY_SECONDS, what="both server processes")
    finally:
        web.terminate()
        assert web.wait() in (0, -signal.SIGTERM)


def test_top_shows_an_endpoint_that_fails(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """By its id and its account, with the failure; its URL is the customer's own affair."""
    receiver.usual_reply(500)
    endpoint_id = send(stack, customer, receiver, "call_failing")
    outbox = Outbox(stack.redis)

    def has_failed() -> bool:
        return any(one.endpoint_id == endpoint_id and one.failures for one in outbox.worst(1000).backlogs)

    eventually(has_failed, within_seconds=10, what="the failure")
    shown = switchhook("top", "--json", "--limit", "1000", env=stack.env)

    assert shown.returncode == 0, shown.stderr
    report = json.loads(shown.stdout)
    (mine,) = (one for one in report["endpoints"] if one["endpointId"] == endpoint_id)
    assert (mine["accountId"], mine["waiting"] + mine["inFlight"], mine["gate"]) == (customer.id, 1, "closed")
    assert mine["failures"] >= 1
    assert receiver.url not in shown.stdout
    assert report["unaccounted"] == 0
