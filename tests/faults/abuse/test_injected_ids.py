"""Ids that would break a log line, a header or a terminal: they stay one escaped value wherever they are shown."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

from tests.customers import Customer, Inlet
from tests.payloads import retell_event, retell_headers
from tests.processes import switchhook
from tests.receiver import Receiver
from tests.stack import Stack

# A second log line, a header, a terminal's escape, its one-byte form, a format directive, a paragraph separator.
HOSTILE: Final = '\r\n{"event":"forged"}\r\nX-Forged: 1\x1b[2J\x9b31m%n%s{0}\u2028\u202e\x7f'


def log_text(stack: Stack) -> str:
    """All that the processes have written."""
    return "".join(process.stdout.read_bytes().decode() for process in stack.processes)


def is_clean(text: str) -> bool:
    """Whether a terminal would show every line as it is."""
    return all(line.isprintable() for line in text.split("\n"))


def send(stack: Stack, source: Inlet, body: bytes) -> str:
    """Post a Retell event; the event's id."""
    answer = stack.post(source.url, body, retell_headers(body, source.secret))
    assert answer.status_code == 200
    event_id: str = answer.json()["id"]
    return event_id


def test_an_id_in_a_path_breaks_no_log_line(stack: Stack) -> None:
    """A21: as the source and as the provider of a webhook."""
    for path in (f"retell/{quote(HOSTILE, safe='')}", f"{quote(HOSTILE, safe='')}/src_1"):
        assert stack.post(f"/api/v1/webhooks/{path}", b"{}", {"X-Retell-Signature": "v=1,d=0"}).status_code == 404

    assert is_clean(log_text(stack))
    assert all(json.loads(line)["event"] != "forged" for line in log_text(stack).splitlines())


def test_an_event_of_any_name_adds_no_header(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """A21: what a provider calls its event goes into a header of the delivery, percent-encoded."""
    source = customer.source("retell", relay_url=receiver.url)

    event_id = send(stack, source, json.dumps({"event": HOSTILE, "call": {"call_id": "call_1"}}).encode())
    stack.await_settled(customer)

    [post] = receiver.of(event_id)
    assert "x-forged" not in post.headers
    assert post.headers["switchhook-event"].startswith("retell.%0D%0A{")
    assert is_clean(log_text(stack))


def test_a_conversation_of_any_name_is_one_row_of_a_table(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """A21: what an operator sees of it in a terminal is as many lines as there are sessions, without its escapes."""
    source = customer.source("retell", relay_url=receiver.url)
    send(stack, source, retell_event("call_ended", HOSTILE, agent_id=HOSTILE))
    stack.await_settled(customer)

    for command in ("sessions", "charges", "deliveries"):
        shown = switchhook(command, "--account", customer.id, env=stack.env)
        assert shown.returncode == 0
        assert len(shown.stdout.splitlines()) == 2, command  # headings and a row
        assert is_clean(shown.stdout)
    [session] = stack.sessions(customer)
    assert session.conversation_id == HOSTILE
    assert is_clean(log_text(stack))
