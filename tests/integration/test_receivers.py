"""The receivers of docs/receiving.md, as real processes, against deliveries signed by Switchhook itself."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from relay.calls import CallEvent, Facts
from relay.delivery.signing import Signing, delivery_headers, new_signing_secret

RECEIVERS = Path(__file__).parents[2] / "docs" / "receivers"
SECRET = new_signing_secret()
BODY = '{"event":"call_analyzed","call":{"transcript":"\u00a1Hola!"}}'.encode()

node = shutil.which("node")
IMPLEMENTATIONS = [
    pytest.param([sys.executable, str(RECEIVERS / "receiver.py")], id="python"),
    pytest.param(
        [node or "node", str(RECEIVERS / "receiver.mjs")],
        id="node",
        marks=pytest.mark.skipif(node is None, reason="Node.js is not installed: its receiver cannot be run here"),
    ),
]


@dataclass(frozen=True, slots=True)
class Receiver:
    """A running receiver: where it listens, what it prints, and what it has on disk."""

    port: int
    output: IO[str]
    inbox: Path

    def post(self, headers: dict[str, str], body: bytes = BODY) -> int:
        """Post a delivery and return the status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/", body, headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def says(self) -> str:
        """Its next line; waits for it."""
        return self.output.readline().strip()


@contextmanager
def running(command: list[str], inbox: Path) -> Iterator[Receiver]:
    process = subprocess.Popen(
        [*command, "0", str(inbox)],
        env=os.environ | {"SWITCHHOOK_SIGNING_SECRET": SECRET},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            first = process.stdout.readline()
            assert first.startswith("listening on ")
            yield Receiver(int(first.split()[-1]), process.stdout, inbox)
        finally:
            process.kill()
            process.wait()


Start = Callable[[], AbstractContextManager[Receiver]]


@pytest.fixture(params=IMPLEMENTATIONS)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """Starts the receiver; each time on the same directory."""
    return lambda: running(request.param, tmp_path / "inbox")


@pytest.fixture
def receiver(start: Start) -> Iterator[Receiver]:
    with start() as receiver:
        yield receiver


def delivery(
    event_id: str = "evt_a",
    kind: str = "call_analyzed",
    *,
    secrets: tuple[str, ...] = (SECRET,),
    age_seconds: int = 0,
    attempt: int = 1,
) -> dict[str, str]:
    """The headers of an attempt that was made `age_seconds` ago."""
    call = CallEvent(provider="retell", kind=kind, event_class="event", conversation_id="c", dedupe=(event_id,))
    facts = Facts(event_id=event_id, account_id="acc_1", call=call, session_id=7, accepted_at_ms=0)
    lines = delivery_headers(
        facts,
        BODY,
        signing=Signing(mode="standard", signing_secrets=secrets),
        attempt=attempt,
        now_ms=int(time.time() - age_seconds) * 1000,
        is_enveloped=False,
    )
    pairs = (line.decode().split(":", 1) for line in lines)
    return {name: value.strip() for name, value in pairs if value}


def test_takes_a_verified_delivery(receiver: Receiver) -> None:
    """A delivery that Switchhook signed is acknowledged and handled, and its content is not kept."""
    assert receiver.post(delivery()) == 204
    assert receiver.says() == "handled evt_a retell.call_analyzed"
    assert receiver.post(delivery("evt_b")) == 204
    assert receiver.says() == "handled evt_b retell.call_analyzed"
    assert (receiver.inbox / "evt_a").read_bytes() == b""


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param({"webhook-id": "evt_b"}, id="another id"),
        pytest.param({"webhook-id": "../evt_b"}, id="an id that is a path"),
        pytest.param({"webhook-signature": "v1," + "A" * 43 + "="}, id="another signature"),
        pytest.param({"webhook-signature": "v1a,x v1"}, id="no signature that we know"),
        pytest.param({"webhook-signature": "\xe9"}, id="a signature that is not ASCII"),
        pytest.param({"webhook-timestamp": ""}, id="no timestamp"),
        pytest.param({"webhook-timestamp": "1e9"}, id="no number"),
    ],
)
def test_refuses_a_bad_proof(receiver: Receiver, spoil: dict[str, str]) -> None:
    """Whatever is wrong with the proof: 401, and nothing is stored."""
    assert receiver.post(delivery() | spoil) == 401
    assert list(receiver.inbox.iterdir()) == []


def test_refuses_a_changed_body_and_another_secret(receiver: Receiver) -> None:
    """One changed byte, no proof at all, or the secret of another endpoint: 401."""
    assert receiver.post(delivery(), BODY.replace(b"H", b"h")) == 401
    assert receiver.post({}) == 401
    assert receiver.post(delivery(secrets=(new_signing_secret(),))) == 401
    assert list(receiver.inbox.iterdir()) == []


def test_takes_either_secret_during_a_rotation(receiver: Receiver) -> None:
    """While a secret is being rotated a delivery is signed with both, and a receiver needs to know only one."""
    assert receiver.post(delivery(secrets=(new_signing_secret(), SECRET))) == 204
    assert receiver.says() == "handled evt_a retell.call_analyzed"


@pytest.mark.parametrize("age_seconds", [310, -310])
def test_refuses_a_stale_timestamp(receiver: Receiver, age_seconds: int) -> None:
    """Signed right but long ago, or in the future: somebody replays it."""
    assert receiver.post(delivery(age_seconds=age_seconds)) == 401
    assert receiver.post(delivery(age_seconds=age_seconds // 2)) == 204


def test_handles_a_repeat_once(receiver: Receiver) -> None:
    """A second attempt of a delivery is acknowledged like the first and handled no more."""
    assert receiver.post(delivery("evt_a")) == 204
    assert receiver.post(delivery("evt_a", attempt=2)) == 204
    assert receiver.says() == "handled evt_a retell.call_analyzed"
    assert receiver.post(delivery("evt_a", attempt=3)) == 204
    assert receiver.post(delivery("evt_b")) == 204
    assert receiver.says() == "handled evt_b retell.call_analyzed"


def test_knows_a_repeat_after_a_restart(start: Start) -> None:
    """Ids are on disk: what was handled before a restart is not handled again."""
    with start() as receiver:
        for event_id in ("evt_a", "evt_b"):
            assert receiver.post(delivery(event_id)) == 204
            assert receiver.says() == f"handled {event_id} retell.call_analyzed"
    # Once it has said that the second is handled, it has done with the first.
    with start() as receiver:
        assert receiver.post(delivery("evt_a", attempt=2)) == 204
        assert receiver.post(delivery("evt_c")) == 204
        said = list(iter(receiver.says, "handled evt_c retell.call_analyzed"))
        assert not any("evt_a" in line for line in said)


def test_handles_after_a_restart_what_waited(start: Start, tmp_path: Path) -> None:
    """What was acknowledged and not handled when the process died is handled by the next one."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "evt_w").write_bytes(b'{"type": "retell.call_ended", "session": "7"}\n' + BODY)
    with start() as receiver:
        assert receiver.says() == "handled evt_w retell.call_ended"


def test_drops_what_arrives_behind_a_later_step(receiver: Receiver) -> None:
    """Order is not promised: a call that was analyzed does not begin again."""
    assert receiver.post(delivery("evt_a", "call_analyzed")) == 204
    assert receiver.post(delivery("evt_b", "call_started")) == 204
    assert receiver.post(delivery("evt_c", "transfer_ended")) == 204
    assert receiver.says() == "handled evt_a retell.call_analyzed"
    assert receiver.says() == "stale evt_b retell.call_started"
    assert receiver.says() == "handled evt_c retell.transfer_ended"
