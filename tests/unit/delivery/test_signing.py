"""The headers of a delivery, beside the official verifiers."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import Any

import msgspec
import pytest
from elevenlabs.client import ElevenLabs
from hypothesis import given
from hypothesis import strategies as st
from retell import Retell
from standardwebhooks import Webhook, WebhookVerificationError

from relay.calls import CallEvent, Facts
from relay.delivery.signing import (
    Signing,
    SigningMode,
    delivery_headers,
    new_signing_secret,
    new_webhook_secret,
    signing_key,
)

SECRET = "whsec_" + base64.b64encode(b"0" * 32).decode()
OLD_SECRET = "whsec_" + base64.b64encode(b"1" * 32).decode()
BODY = '{"event":"call_analyzed","call":{"transcript":"\u00a1Hola!"}}'.encode()


def facts(provider: str = "retell", **changes: Any) -> Facts:
    call = CallEvent(
        provider=provider,
        kind="call_analyzed",
        event_class="complete",
        conversation_id="abc",
        dedupe=("abc",),
    )
    whole = Facts(event_id="evt_abc", account_id="acc_1", call=call, session_id=7, accepted_at_ms=0)
    return msgspec.structs.replace(whole, **changes)


def now_ms() -> int:
    return int(time.time() * 1000)


def headers(
    event: Facts | None = None,
    *,
    mode: SigningMode = "standard",
    secrets: tuple[str, ...] = (SECRET,),
    at_ms: int | None = None,
    is_enveloped: bool = False,
    is_refetched: bool = False,
    webhook_secret: str | None = "hush",
    own: tuple[tuple[str, str], ...] = (),
) -> dict[str, str]:
    """The header lines as a receiver would see them."""
    lines = delivery_headers(
        event or facts(),
        BODY,
        signing=Signing(mode=mode, signing_secrets=secrets, webhook_secret=webhook_secret, headers=own),
        attempt=2,
        now_ms=now_ms() if at_ms is None else at_ms,
        is_enveloped=is_enveloped,
        is_refetched=is_refetched,
    )
    assert lines.pop() == b"Expect:"
    seen = dict(line.decode().split(": ", 1) for line in lines)
    assert len(seen) == len(lines)
    return seen


def test_official_verifier_accepts_our_signature() -> None:
    """The Standard Webhooks package takes our three headers, and refuses them over another body."""
    sent = headers()
    assert Webhook(SECRET).verify(BODY, sent) == json.loads(BODY)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY + b" ", sent)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD_SECRET).verify(BODY, sent)


def test_both_secrets_verify_during_a_rotation() -> None:
    """One signature per secret, separated by a space."""
    sent = headers(secrets=(SECRET, OLD_SECRET))
    assert re.fullmatch(r"v1,[A-Za-z0-9+/=]{44} v1,[A-Za-z0-9+/=]{44}", sent["webhook-signature"])
    for secret in (SECRET, OLD_SECRET):
        assert Webhook(secret).verify(BODY, sent) == json.loads(BODY)


def test_keys_are_not_used_up() -> None:
    """The same endpoint signs again and again with the same keys."""
    signing = Signing(mode="standard", signing_secrets=(SECRET,))
    first = signing.standard_signature("evt_abc", 1, BODY)
    assert signing.standard_signature("evt_other", 2, b"x") != first
    assert signing.standard_signature("evt_abc", 1, BODY) == first


def test_headers_of_a_verbatim_delivery() -> None:
    """Every header of the documentation, and the content type that the provider gave."""
    call = msgspec.structs.replace(facts().call, occurred_at_ms=1_770_811_500_123)
    sent = headers(facts(call=call, content_type="application/json; charset=utf-8"), at_ms=1_770_811_600_999)
    assert len(sent.pop("webhook-signature")) == len("v1,") + 44
    assert sent == {
        "webhook-id": "evt_abc",
        "webhook-timestamp": "1770811600",
        "Content-Type": "application/json; charset=utf-8",
        "X-Webhook-Secret": "hush",
        "Switchhook-Event": "retell.call_analyzed",
        "Switchhook-Session": "7",
        "Switchhook-Attempt": "2",
        "Switchhook-Occurred-At": "2026-02-11T12:05:00.123Z",
    }


def test_envelope_is_json_whatever_the_provider_sent() -> None:
    """The envelope is ours, and so is its content type."""
    assert headers(facts(content_type="text/plain"), is_enveloped=True)["Content-Type"] == "application/json"


def test_refetched_content_says_so() -> None:
    """Exact bytes are not claimed for content that was fetched again."""
    assert headers(is_refetched=True)["Switchhook-Refetched"] == "1"
    assert "Switchhook-Refetched" not in headers()


def test_unknown_moment_is_left_out() -> None:
    """An event that does not tell its moment has no header for it."""
    assert "Switchhook-Occurred-At" not in headers()


def test_own_headers_come_as_configured() -> None:
    """The endpoint's own headers are sent, an empty one in libcurl's spelling for that."""
    assert headers(own=(("Authorization", "Bearer x"),))["Authorization"] == "Bearer x"
    signing = Signing(mode="standard", signing_secrets=(SECRET,), headers=(("X-Empty", ""),))
    lines = delivery_headers(facts(), BODY, signing=signing, attempt=1, now_ms=0, is_enveloped=False)
    assert b"X-Empty;" in lines
    assert not any(line.startswith(b"X-Webhook-Secret") for line in lines)


def test_provider_mode_suits_retells_own_verifier() -> None:
    """A receiver built on Retell's package verifies with the endpoint's signing secret as its key."""
    sent = headers(mode="provider")
    proof = sent["X-Retell-Signature"]
    assert Retell(api_key=SECRET).verify(BODY.decode(), api_key=SECRET, signature=proof)  # type: ignore[no-untyped-call]
    assert Webhook(SECRET).verify(BODY, sent) == json.loads(BODY)


def test_provider_mode_suits_elevenlabs_own_verifier() -> None:
    """A receiver built on ElevenLabs' package verifies with the endpoint's signing secret."""
    sent = headers(facts("elevenlabs"), mode="provider")
    client = ElevenLabs(api_key="unused")
    assert client.webhooks.construct_event(BODY.decode(), sent["ElevenLabs-Signature"], SECRET) == json.loads(BODY)


def test_provider_mode_signs_each_attempt_anew() -> None:
    """The provider's timestamp is that of the attempt, so that the ninth passes its tolerance as the first did."""
    early, late = (headers(mode="provider", at_ms=at_ms)["X-Retell-Signature"] for at_ms in (5_000, 90_000_000))
    assert early.startswith("v=5000,")
    assert late.startswith("v=90000000,")


def test_provider_mode_uses_the_newest_secret_during_a_rotation() -> None:
    """Providers' formats carry one signature: that of the newest secret."""
    sent = headers(mode="provider", secrets=(SECRET, OLD_SECRET), at_ms=5_000)
    assert sent["X-Retell-Signature"] == headers(mode="provider", at_ms=5_000)["X-Retell-Signature"]


def test_provider_mode_without_a_signing_provider_is_standard() -> None:
    """Where the provider has no format of its own the standard proof stands alone."""
    assert headers(facts("other"), mode="provider").keys() == headers(facts("other")).keys()


@given(kind=st.text(min_size=1, max_size=256), content_type=st.text(max_size=256))
def test_no_fact_breaks_a_header_line(kind: str, content_type: str) -> None:
    """Whatever a provider calls its event, each line stays one line of visible ASCII."""
    call = msgspec.structs.replace(facts().call, kind=kind)
    lines = delivery_headers(
        facts(call=call, content_type=content_type),
        BODY,
        signing=Signing(mode="standard", signing_secrets=(SECRET,)),
        attempt=1,
        now_ms=0,
        is_enveloped=False,
    )
    assert all(re.fullmatch(rb"[ -~]+", line) for line in lines)


def test_odd_event_names_are_percent_encoded() -> None:
    """CR and LF cannot start a header of their own."""
    call = msgspec.structs.replace(facts().call, kind="a\r\nX-Evil: 1\u00e9")
    assert headers(facts(call=call))["Switchhook-Event"] == "retell.a%0D%0AX-Evil: 1%C3%A9"


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00", "\x7f"])
def test_refuses_control_characters_in_configured_headers(value: str) -> None:
    """What the customer configured is sent as it is or not at all; the error quotes nothing."""
    for configured in ({"webhook_secret": value}, {"headers": (("X-Own", value),)}):
        with pytest.raises(ValueError, match="control character") as caught:
            Signing(mode="standard", signing_secrets=(SECRET,), **configured)
        assert "Evil" not in str(caught.value)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_*", "0" * 44, "whsec_\u00e9\u00e9", "whsec_abc"])
def test_refuses_signing_secrets_that_are_not_whsec_and_base64(secret: str) -> None:
    """A malformed secret is refused when the endpoint is prepared, without being quoted."""
    with pytest.raises(ValueError, match="a signing secret is whsec_ and base64"):
        Signing(mode="standard", signing_secrets=(secret,))


def test_needs_a_signing_secret() -> None:
    """No delivery goes unsigned."""
    with pytest.raises(ValueError, match="needs a signing secret"):
        Signing(mode="standard", signing_secrets=())


def test_secrets_stay_out_of_the_repr() -> None:
    """Printing an endpoint's signing shows its mode and nothing secret."""
    signing = Signing(mode="standard", signing_secrets=(SECRET,), webhook_secret="hush", headers=(("A", "token"),))
    assert repr(signing) == "Signing(mode='standard')"


def test_new_secrets_are_fresh_and_usable() -> None:
    """A new signing secret holds 32 bytes; no two secrets are alike."""
    made = {new_signing_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(len(signing_key(secret)) == 32 for secret in made)
    assert new_webhook_secret() != new_webhook_secret()
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", new_webhook_secret())
