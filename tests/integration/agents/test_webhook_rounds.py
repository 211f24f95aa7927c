"""No agent goes on naming a webhook that is gone: others learn of a new one, and each account's is looked after."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.agents.rounds import WebhookRounds
from relay.agents.webhooks import WorkspaceWebhooks
from relay.store import sources
from tests.fakes.elevenlabs import FakeElevenLabs
from tests.integration.agents.voices import CREATE, Owned, Voices, once
from workers import upkeep

CHANGE = "PATCH /v1/convai/agents"
LIST = "GET /v1/workspace/webhooks"


def _rounds(voices: Voices) -> WebhookRounds:
    webhooks = WorkspaceWebhooks(voices.settings, voices.database, voices.ring, voices.mirror)
    return WebhookRounds(voices.database, webhooks, voices.sync._clients)


def _looked(voices: Voices) -> int:
    """Look after all whose hour has come; how many there were."""
    return _rounds(voices).due(10)


def _pass_time(voices: Voices, interval: str = "1 hour") -> None:
    voices.execute(f"UPDATE workspace_webhooks SET look_at = look_at - interval '{interval}'")


def _named(voices: Voices, *templates: Owned) -> set[str]:
    """The webhooks that the agents of these templates name."""
    agents = [voices.fake.workspace.agents[str(voices.row(template).agent_id)] for template in templates]
    hooks = [agent["platform_settings"]["workspace_overrides"]["webhooks"] for agent in agents]
    return {hook["post_call_webhook_id"] for hook in hooks}


def _synced(voices: Voices, account_id: str) -> Owned:
    template = voices.create(account_id)
    assert voices.step(template).status == "synced"
    return template


@pytest.fixture
def pair(voices: Voices) -> tuple[Owned, Owned]:
    """Two templates of an account, whose agents are there."""
    account_id = voices.account()
    return _synced(voices, account_id), _synced(voices, account_id)


def test_all_agents_of_the_account_learn_of_another_webhook(
    voices: Voices, fake: FakeElevenLabs, pair: tuple[Owned, Owned]
) -> None:
    """They are due at once; that of the template which noticed needs no second try, and nobody else's is touched."""
    brought = voices.create(pair[0].account_id, agent_id="agent_theirs")
    other = _synced(voices, voices.account())
    voices.use(replace(voices.settings, public_url="https://moved.example.com"))

    voices.change(pair[0])
    changes = len(fake.calls(CHANGE))
    voices.step(pair[0])

    assert len(fake.calls(CHANGE)) == changes + 1
    statuses = [voices.row(template).status for template in (*pair, brought, other)]
    assert statuses == ["synced", "pending", "synced", "synced"]
    assert voices.sync.due(10) == 1
    assert voices.row(pair[1]).status == "synced"
    (new,) = _named(voices, *pair)
    assert fake.workspace.webhooks[new]["webhook_url"].startswith("https://moved.example.com/")


def test_an_agent_that_is_on_its_way_learns_of_another_webhook(voices: Voices, fake: FakeElevenLabs) -> None:
    """It was begun with the old one, which is gone by now: it goes on with the new one at once."""
    first = _synced(voices, voices.account())
    late = voices.create(first.account_id)
    other = voices.another()
    looked: list[int] = []

    def replace_it() -> None:
        fake.workspace.webhooks.clear()
        _pass_time(other)
        looked.append(_looked(other))

    fake.before = once(CREATE, replace_it)

    assert (voices.step(late).status, looked) == ("synced", [1])
    voices.sync.due(10)
    assert _named(voices, first, late) == set(fake.workspace.webhooks)
    other.database.close()


def test_a_webhook_that_somebody_deleted_is_replaced_within_the_hour(
    voices: Voices, fake: FakeElevenLabs, pair: tuple[Owned, Owned]
) -> None:
    """No template has to change for that, and every agent names the new one."""
    fake.workspace.webhooks.clear()
    assert _looked(voices) == 0
    _pass_time(voices)

    assert _looked(voices) == 1
    assert voices.sync.due(10) == 2

    assert _named(voices, *pair) == set(fake.workspace.webhooks)
    assert len(fake.workspace.webhooks) == 1
    assert _looked(voices) == 0


def test_a_webhook_that_was_switched_off_is_switched_on_within_the_hour(
    voices: Voices, fake: FakeElevenLabs, pair: tuple[Owned, Owned]
) -> None:
    """Its agents stay as they are."""
    (webhook,) = fake.workspace.webhooks.values()
    webhook["is_auto_disabled"] = True
    _pass_time(voices)

    assert (_looked(voices), webhook["is_auto_disabled"]) == (1, False)
    assert voices.sync.due(10) == 0


def test_a_source_that_was_disabled_is_replaced_at_once(
    voices: Voices, fake: FakeElevenLabs, pair: tuple[Owned, Owned]
) -> None:
    """What is posted there is refused: there is no hour to wait for."""
    account_id = pair[0].account_id
    disabled = voices.source(account_id).id
    with voices.database.begin() as connection:
        sources.disable(connection, voices.ring, account_id=account_id, source_id=disabled)

    assert _looked(voices) == 1
    assert voices.sync.due(10) == 2

    (named,) = _named(voices, *pair)
    assert not fake.workspace.webhooks[named]["webhook_url"].endswith(disabled)


def test_only_accounts_with_agents_of_ours_are_looked_after(voices: Voices, fake: FakeElevenLabs) -> None:
    """One has none, one brought its own, one's template is gone."""
    voices.account()
    voices.step(voices.create(agent_id="agent_theirs"))
    gone = _synced(voices, voices.account())
    voices.delete(gone)
    voices.step(gone)
    _pass_time(voices)
    calls = len(fake.calls(LIST))

    assert (_looked(voices), len(fake.calls(LIST))) == (0, calls)


@pytest.mark.parametrize(("status", "minutes"), [(503, 5), (401, 60)])
def test_a_look_that_fails_is_repeated_and_keeps_no_other_account_waiting(
    voices: Voices,
    fake: FakeElevenLabs,
    caplog: pytest.LogCaptureFixture,
    pair: tuple[Owned, Owned],
    *,
    status: int,
    minutes: int,
) -> None:
    """Soon after an outage, in an hour after a refusal; both are told."""
    _synced(voices, voices.account())
    _pass_time(voices)
    fake.fail_next(status, times=3 if status == 503 else 1, on=LIST)
    caplog.clear()

    assert _looked(voices) == 2

    assert [record.getMessage() for record in caplog.records] == ["workspace_webhook_not_checked"]
    _pass_time(voices, f"{minutes - 1} minutes")
    assert _looked(voices) == 0
    _pass_time(voices, "1 minute")
    assert _looked(voices) == (1 if status == 503 else 2)


def test_upkeep_looks_after_webhooks(voices: Voices, fake: FakeElevenLabs, pair: tuple[Owned, Owned]) -> None:
    """As many as are due."""
    _pass_time(voices)
    assert upkeep.look_after_webhooks(_rounds(voices)) == 1
