"""A positive control: the comparison of the ledgers that the fault tests rest on notices what it must."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import requests

from tests.receiver import Post, Receiver
from tests.stack import Stack
from tests.traffic import Traffic

Tampering = Callable[[Post], tuple[Mapping[str, str], bytes]]

TAMPERED: dict[str, tuple[Tampering, str]] = {
    "repeated": (lambda post: (post.headers, post.body), "1 repeats"),
    "altered": (lambda post: (post.headers, post.body + b" "), "1 altered"),
    "invented": (lambda post: ({**post.headers, "webhook-id": "evt_invented"}, post.body), "1 new"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_the_comparison_notices_what_was_tampered_with(
    stack: Stack, traffic: Traffic, receiver: Receiver, name: str
) -> None:
    """One POST that nobody sent is enough, and so is a delivery that did not come."""
    stack.start("web", "worker")
    assert traffic.send(1) == 200
    traffic.assert_ledgers_agree()
    tamper, told = TAMPERED[name]
    headers, body = tamper(receiver.posts[0])

    requests.post(receiver.url, data=body, headers=headers, timeout=5)

    with pytest.raises(AssertionError, match=told):
        traffic.assert_ledgers_agree()


def test_the_comparison_notices_what_is_missing(stack: Stack, traffic: Traffic, receiver: Receiver) -> None:
    """Accepted and never settled is not agreement."""
    stack.start("web")
    assert traffic.send(1) == 200

    with pytest.raises(AssertionError, match="everything settled"):
        traffic.assert_ledgers_agree(within_seconds=0.5)
