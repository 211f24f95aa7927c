"""The sample receiver finds genuine what Standard Webhooks' own package signs, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from relay.demo.receiver import Counts, Receiver, Secrets, is_genuine

NOW = datetime.now(UTC)
BODY = b'{"event":"complete"}'
SECRETS = Secrets("whsec_" + "c2l4dGVlbiBieXRlcyBhcmUgZW5vdWdo", "a-shared-secret")


def delivery(at: datetime = NOW, /, **changed: str) -> dict[str, str]:
    """The headers of a delivery as a customer's server sees them, with some changed."""
    signed = Webhook(SECRETS.signing_secret).sign("evt_1", at, BODY.decode())
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signed,
        "x-webhook-secret": SECRETS.webhook_secret,
    } | {name.replace("_", "-"): value for name, value in changed.items()}


def genuine(headers: dict[str, str], *, body: bytes = BODY, seconds_later: float = 0) -> bool:
    return is_genuine(body, headers, secrets=SECRETS, now_seconds=NOW.timestamp() + seconds_later)


def test_signed_delivery_is_genuine() -> None:
    """The official signature, alone or during a rotation, within five minutes."""
    assert genuine(delivery())
    assert genuine(delivery(webhook_signature="v1,b2xk " + delivery()["webhook-signature"]))
    assert genuine(delivery(), seconds_later=299)


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook_signature": "v1,b2xk"},
        {"webhook_signature": delivery()["webhook-signature"].replace("v1,", "v2,")},
        {"webhook_signature": ""},
        {"webhook_signature": "garbage"},
        {"webhook_id": "evt_2"},
        {"webhook_timestamp": str(int(NOW.timestamp()) + 1)},
        {"webhook_timestamp": "soon"},
        # Python reads no integer of so many digits.
        {"webhook_timestamp": "9" * 5000},
        {"x_webhook_secret": "another"},
        {"x_webhook_secret": "\u00e9"},
    ],
)
def test_changed_delivery_is_not_genuine(changed: dict[str, str]) -> None:
    """Whatever is changed, the answer is no and never an exception."""
    assert not genuine(delivery(**changed))


def test_stale_delivery_and_other_body_are_not_genuine() -> None:
    """Age and every byte of the body count."""
    assert not genuine(delivery(), seconds_later=301)
    assert not genuine(delivery(), seconds_later=-301)
    assert not genuine(delivery(), body=BODY + b" ")
    assert not genuine({})


def test_receiver_counts_a_repeat_once() -> None:
    """The same webhook-id is answered like the first and is not delivered twice; what is not genuine is refused."""
    with Receiver() as receiver:
        receiver.trust("/hook", SECRETS)
        assert receiver.verified_at("evt_1") is None
        assert receiver.take("/hook", delivery(datetime.now(UTC)), BODY) == 204
        first = receiver.verified_at("evt_1")
        assert first is not None
        assert receiver.take("/hook", delivery(datetime.now(UTC)), BODY) == 204
        assert receiver.take("/hook", delivery(datetime.now(UTC), x_webhook_secret="another"), BODY) == 401
        assert receiver.take("/elsewhere", delivery(datetime.now(UTC)), BODY) == 404
        assert receiver.verified_at("evt_1") == first
        assert receiver.counts == Counts(verified=1, repeats=1, refused=1)
