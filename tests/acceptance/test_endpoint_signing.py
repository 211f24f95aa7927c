"""An endpoint that asks for the provider's own signature verifies with the provider's own package."""

from __future__ import annotations

from typing import Any

import pytest
from elevenlabs.client import ElevenLabs
from retell.lib.webhook_auth import symmetric
from standardwebhooks import Webhook

from tests.customers import Customer
from tests.payloads import elevenlabs_headers, elevenlabs_transcription, retell_event, retell_headers
from tests.receiver import Post, Receiver
from tests.stack import Stack


def is_retells(post: Post, secret: str) -> bool:
    """Whether Retell's package takes it."""
    return bool(symmetric["verify"](post.body.decode(), secret, post.headers["x-retell-signature"]))


def is_elevenlabs(post: Post, secret: str) -> bool:
    """Whether ElevenLabs' package takes it; it raises when not."""
    webhooks = ElevenLabs(api_key="unused").webhooks
    return bool(webhooks.construct_event(post.body.decode(), post.headers["elevenlabs-signature"], secret))


@pytest.mark.parametrize("provider", ["retell", "elevenlabs"])
def test_signs_in_the_providers_format_at_every_attempt(
    stack: Stack, customer: Customer, receiver: Receiver, provider: str
) -> None:
    """Both attempts verify with the endpoint's signing secret as the key, the second with a fresh timestamp."""
    source = customer.source(provider)
    endpoint = customer.endpoint(receiver.url, signing="provider")
    secret = endpoint.signing_secrets[0]
    receiver.next_replies(503)
    if provider == "retell":
        body, verified, header = retell_event("call_analyzed", "call_1"), is_retells, "x-retell-signature"
        proof = retell_headers(body, source.secret)
    else:
        body, verified, header = elevenlabs_transcription("conv_1"), is_elevenlabs, "elevenlabs-signature"
        proof = elevenlabs_headers(body, source.secret)

    assert stack.post(source.url, body, proof).status_code == 200
    posts = receiver.await_posts(2)

    assert [post.body for post in posts] == [body, body]
    assert all(verified(post, secret) for post in posts)
    assert posts[0].headers[header] != posts[1].headers[header]
    for post in posts:
        Webhook(secret).verify(post.body.decode(), dict[str, Any](post.headers))


def test_signs_by_standard_webhooks_alone_unless_asked(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """The provider's signature, which proves nothing under another secret, is not passed on."""
    source = customer.source("retell", relay_url=receiver.url)
    body = retell_event("call_analyzed", "call_2")

    stack.post(source.url, body, retell_headers(body, source.secret))

    [post] = receiver.await_posts(1)
    assert "x-retell-signature" not in post.headers
    assert source.secret not in " ".join(post.headers.values())
