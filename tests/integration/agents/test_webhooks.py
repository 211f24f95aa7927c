"""An account's workspace webhook is made once, is looked after, and signs with a secret that its source knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.agents.webhooks import WorkspaceWebhooks
from relay.errors import ProviderUnavailable
from relay.store import audit, sources, workspace_webhooks
from tests.fakes.elevenlabs import FakeElevenLabs
from tests.fakes.server import DROPPED
from tests.integration.agents.voices import Voices, once, pointed_at


def _ensure(voices: Voices, account_id: str) -> str:
    ensuring = WorkspaceWebhooks(voices.settings, voices.database, voices.ring, voices.mirror)
    return ensuring.ensure(account_id, voices.sync._clients.elevenlabs(account_id))


def test_makes_a_webhook_that_posts_to_a_source_of_the_account(voices: Voices, fake: FakeElevenLabs) -> None:
    """It retries, and the ingress knows the secret that it signs with."""
    account_id = voices.account()

    webhook_id = _ensure(voices, account_id)

    (webhook,) = fake.workspace.webhooks.values()
    source = voices.source(account_id)
    assert webhook["webhook_id"] == webhook_id
    assert webhook["webhook_url"] == f"https://relay.example.com/api/v1/webhooks/elevenlabs/{source.id}"
    assert (webhook["retry_enabled"], webhook["auth_type"]) == (True, "hmac")
    assert source.secrets == (webhook["secret"],)
    mirrored = voices.mirror.get(account_id)
    assert mirrored is not None
    assert [(one.secrets, one.managed) for one in mirrored.sources] == [(source.secrets, True)]


def test_making_it_is_audited(voices: Voices, fake: FakeElevenLabs) -> None:
    """The source and each secret that it gets, as upkeep's; looking for it is not."""
    account_id = voices.account()
    for _ in range(2):
        _ensure(voices, account_id)
    fake.workspace.webhooks.clear()
    _ensure(voices, account_id)

    source = voices.source(account_id)
    with voices.database.begin() as connection:
        rows = audit.page(connection, account_id=account_id)
    assert [(row.actor, row.action, row.object_id) for row in reversed(rows)] == [
        ("upkeep", "source.created", source.id),
        ("upkeep", "source.rotated", source.id),
        ("upkeep", "source.rotated", source.id),
    ]
    assert len({row.after_sha256 for row in rows}) == 1


def test_makes_it_once(voices: Voices, fake: FakeElevenLabs) -> None:
    """Later it is only looked for; each account has its own."""
    account_id = voices.account()

    first = _ensure(voices, account_id)
    calls = len(fake.requests)

    assert _ensure(voices, account_id) == first
    assert len(fake.requests) == calls + 1
    assert _ensure(voices, voices.account()) != first


def test_makes_one_anew_that_somebody_deleted(voices: Voices, fake: FakeElevenLabs) -> None:
    """For the same source, which goes on knowing the old secret: what that signed may still be repeated."""
    account_id = voices.account()
    first = _ensure(voices, account_id)
    old = fake.workspace.webhooks.pop(first)["secret"]

    second = _ensure(voices, account_id)

    assert second != first
    assert voices.source(account_id).secrets == (fake.workspace.webhooks[second]["secret"], old)


@pytest.mark.parametrize("switch", ["is_disabled", "is_auto_disabled"])
def test_switches_on_one_that_was_switched_off(voices: Voices, fake: FakeElevenLabs, switch: str) -> None:
    """By somebody, or by ElevenLabs after a week of failures."""
    account_id = voices.account()
    webhook_id = _ensure(voices, account_id)
    fake.workspace.webhooks[webhook_id][switch] = True

    assert _ensure(voices, account_id) == webhook_id
    assert not fake.workspace.webhooks[webhook_id][switch]


def test_makes_one_in_the_workspace_of_another_key(voices: Voices, fake: FakeElevenLabs) -> None:
    """The old workspace keeps its own, and calls that began there still end with a secret that is known."""
    account_id = voices.account()
    _ensure(voices, account_id)
    old = voices.source(account_id).secrets
    theirs = fake.add_workspace("their-key")

    voices.use(pointed_at(voices.settings, fake, key="their-key"))
    webhook_id = _ensure(voices, account_id)

    assert voices.source(account_id).secrets == (theirs.webhooks[webhook_id]["secret"], *old)
    assert len(fake.workspace.webhooks) == 1


def test_follows_when_our_address_changes(voices: Voices, fake: FakeElevenLabs) -> None:
    """The one that posts to the old address is deleted."""
    account_id = voices.account()
    _ensure(voices, account_id)

    voices.use(replace(voices.settings, public_url="https://moved.example.com"))
    _ensure(voices, account_id)

    (webhook,) = fake.workspace.webhooks.values()
    assert webhook["webhook_url"].startswith("https://moved.example.com/")


@pytest.mark.parametrize("status", [500, DROPPED])
def test_one_whose_secret_was_lost_is_made_again(voices: Voices, fake: FakeElevenLabs, status: int) -> None:
    """It was made, and the answer never came: nobody will ever know its secret."""
    account_id = voices.account()
    fake.fail_next(status, on="POST /v1/workspace/webhooks", acted=True)

    with pytest.raises(ProviderUnavailable):
        _ensure(voices, account_id)
    (lost,) = fake.workspace.webhooks
    webhook_id = _ensure(voices, account_id)

    assert (list(fake.workspace.webhooks), webhook_id != lost) == ([webhook_id], True)
    assert voices.source(account_id).secrets == (fake.workspace.webhooks[webhook_id]["secret"],)


def test_one_that_could_not_be_made_to_retry_is_made_again(voices: Voices, fake: FakeElevenLabs) -> None:
    """Without retries an event that comes while we are away would be gone."""
    account_id = voices.account()
    fake.fail_next(500, times=3, on="PATCH /v1/workspace/webhooks")

    with pytest.raises(ProviderUnavailable):
        _ensure(voices, account_id)
    _ensure(voices, account_id)

    (webhook,) = fake.workspace.webhooks.values()
    assert webhook["retry_enabled"]
    assert voices.source(account_id).secrets == (webhook["secret"],)


def test_a_source_that_was_disabled_is_not_used(voices: Voices, fake: FakeElevenLabs) -> None:
    """What posts there is refused: another source takes its place."""
    account_id = voices.account()
    _ensure(voices, account_id)
    disabled = voices.source(account_id).id
    with voices.database.begin() as connection:
        sources.disable(connection, voices.ring, account_id=account_id, source_id=disabled)

    webhook_id = _ensure(voices, account_id)

    assert not fake.workspace.webhooks[webhook_id]["webhook_url"].endswith(disabled)


def test_waits_for_a_process_that_is_making_it(
    voices: Voices, fake: FakeElevenLabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a while; then the agent is tried again later, and nothing was made twice."""
    monkeypatch.setattr("relay.agents.webhooks._WAIT_SECONDS", 0.0)
    account_id = voices.account()
    with voices.database.begin() as connection:
        reserved, _ = workspace_webhooks.reserve(
            connection, voices.ring, account_id=account_id, provider="elevenlabs", name="ElevenLabs"
        )
        workspace_webhooks.take(connection, reserved.source_id)

    with pytest.raises(ProviderUnavailable) as caught:
        _ensure(voices, account_id)
    assert (caught.value.code, fake.workspace.webhooks) == ("webhook_busy", {})
    voices.end_leases()
    _ensure(voices, account_id)
    assert len(fake.workspace.webhooks) == 1


@pytest.mark.parametrize("call", ["POST /v1/workspace/webhooks", "PATCH /v1/workspace/webhooks"])
def test_a_process_that_was_overtaken_does_not_tell_of_its_webhook(
    voices: Voices, fake: FakeElevenLabs, call: str
) -> None:
    """Its secret must not take the place of the one that another process has stored."""
    account_id = voices.account()
    other = voices.another()

    def overtake() -> None:
        voices.end_leases()
        _ensure(other, account_id)

    fake.before = once(call, overtake)
    with pytest.raises(ProviderUnavailable):
        _ensure(voices, account_id)
    webhook_id = _ensure(voices, account_id)

    assert list(fake.workspace.webhooks) == [webhook_id]
    assert voices.source(account_id).secrets == (fake.workspace.webhooks[webhook_id]["secret"],)
    other.database.close()
