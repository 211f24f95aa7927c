"""Accounts share the operator's workspace, or have one of their own: no step reaches what is another's."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

import pytest

from relay.agents.tools import markers
from relay.sealing import KeyRing
from relay.settings import ProviderAccess
from relay.store import grants, provider_keys
from tests.fakes.elevenlabs import FakeElevenLabs
from tests.fakes.server import DROPPED
from tests.integration.agents.voices import CREATE, Owned, Voices

THEIR_KEY: Final = "their-key"
OTHER_KEY: Final = "their-other-key"


def _store(voices: Voices, account_id: str, key: str) -> None:
    with voices.database.begin() as connection:
        provider_keys.put(connection, voices.ring, account_id=account_id, provider="elevenlabs", key=key)


def _forget(voices: Voices, account_id: str) -> None:
    with voices.database.begin() as connection:
        provider_keys.remove(connection, account_id=account_id, provider="elevenlabs")


def _grant(voices: Voices, account_id: str, agent_id: str) -> None:
    with voices.database.begin() as connection:
        grants.add(connection, account_id=account_id, provider="elevenlabs", object_id=agent_id)


def _without_our_knowing(voices: Voices, fake: FakeElevenLabs) -> tuple[Owned, str]:
    """A template whose agent was made, while the answer was lost."""
    template = voices.create()
    fake.fail_next(DROPPED, on=CREATE, acted=True)
    voices.step(template)
    return template, next(reversed(fake.workspace.agents))


def test_the_marker_cannot_be_guessed(voices: Voices, fake: FakeElevenLabs) -> None:
    """Whoever knows the ids of an account and a template does not know the tag."""
    template = voices.create()
    agent_id = voices.step(template).agent_id

    assert agent_id is not None
    (tag,) = fake.workspace.agents[agent_id]["tags"]
    assert tag.startswith("switchhook:")
    assert template.account_id not in tag
    other = KeyRing("another passphrase of thirty-two characters")
    assert tag not in markers(other, template.account_id, template.id)


def test_an_agent_is_found_again_after_the_ring_was_rotated(voices: Voices, fake: FakeElevenLabs) -> None:
    """Every key of the ring is tried; the newest marks."""
    ring = f"k1:{'A' * 43}="
    voices.use(replace(voices.settings, keys=ring))
    template, left = _without_our_knowing(voices, fake)

    voices.use(replace(voices.settings, keys=f"k2:{'B' * 43}=,{ring}"))
    state = voices.step(template)

    assert (state.agent_id, list(fake.workspace.agents)) == (left, [left])
    newest = markers(voices.ring, template.account_id, template.id)[0]
    assert fake.workspace.agents[left]["tags"] == [newest]


def test_what_another_template_has_is_not_adopted(voices: Voices, fake: FakeElevenLabs) -> None:
    """Not even with the marker: it stays as it is, and another agent is made."""
    template, left = _without_our_knowing(voices, fake)
    voices.create(agent_id=left)
    before = dict(fake.workspace.agents[left])

    state = voices.step(template)

    assert state.status == "synced"
    assert state.agent_id != left
    assert fake.workspace.agents[left] == before


def test_what_another_template_has_is_not_removed(voices: Voices, fake: FakeElevenLabs) -> None:
    """Neither what carries the marker, nor what the row itself names."""
    template, left = _without_our_knowing(voices, fake)
    first = voices.create()
    named = voices.step(first).agent_id
    assert named is not None
    for agent_id in (left, named):
        voices.create(agent_id=agent_id)

    for one in (template, first):
        voices.delete(one)
        voices.settle()
        assert voices.step(one).status == "removed"

    assert set(fake.workspace.agents) == {left, named}


def test_an_agent_is_removed_with_the_key_that_made_it(voices: Voices, fake: FakeElevenLabs) -> None:
    """The account has a key of its own by then, which does not open the operator's workspace."""
    fake.add_workspace(THEIR_KEY)
    template = voices.create()
    voices.step(template)
    _store(voices, template.account_id, THEIR_KEY)

    voices.delete(template)

    assert voices.step(template).status == "removed"
    assert voices.at_provider() == (0, 0, 1)


def test_an_agent_whose_key_is_gone_is_not_called_removed(
    voices: Voices, fake: FakeElevenLabs, caplog: pytest.LogCaptureFixture
) -> None:
    """It is there still: the row stays open, the alarm says why, and the same key closes it."""
    theirs = fake.add_workspace(THEIR_KEY)
    account_id = voices.account()
    _store(voices, account_id, THEIR_KEY)
    template = voices.create(account_id)
    voices.step(template)
    _forget(voices, account_id)
    voices.delete(template)

    for _ in range(8):
        voices.pass_waits()
        state = voices.step(template)
    assert (state.status, state.code, len(theirs.agents)) == ("removing", "provider_key_gone", 1)
    told = [vars(record) for record in caplog.records if record.levelno >= logging.ERROR]
    assert any("provider_key_gone" in repr(one) for one in told)
    _store(voices, account_id, THEIR_KEY)
    assert voices.step(template).status == "removed"
    assert (theirs.agents, theirs.tools) == ({}, {})


def test_a_new_key_of_the_same_workspace_removes_it(voices: Voices, fake: FakeElevenLabs) -> None:
    """Keys are rotated; what sees the agent may delete it."""
    theirs = fake.add_workspace(THEIR_KEY)
    account_id = voices.account()
    _store(voices, account_id, THEIR_KEY)
    template = voices.create(account_id)
    voices.step(template)
    fake.workspaces[OTHER_KEY] = theirs
    _store(voices, account_id, OTHER_KEY)

    voices.delete(template)

    assert voices.step(template).status == "removed"
    assert (theirs.agents, theirs.tools) == ({}, {})


def test_a_live_agent_follows_a_new_key_and_leaves_nothing_in_our_workspace(
    voices: Voices, fake: FakeElevenLabs
) -> None:
    """At the template's next change it is made there, and deleted here."""
    theirs = fake.add_workspace(THEIR_KEY)
    template = voices.create()
    first = voices.step(template)
    _store(voices, template.account_id, THEIR_KEY)

    voices.change(template)
    state = voices.step(template)

    assert (state.status, list(theirs.agents)) == ("synced", [state.agent_id])
    assert state.agent_id != first.agent_id
    assert voices.at_provider() == (0, 0, 1)


def test_a_key_that_opens_nothing_is_not_remembered(voices: Voices, fake: FakeElevenLabs) -> None:
    """Nothing was made with it, so that nothing keeps the template from being removed."""
    account_id = voices.account()
    _store(voices, account_id, "mistyped")
    template = voices.create(account_id)
    assert voices.step(template).code == "provider_key_refused"
    _forget(voices, account_id)

    voices.delete(template)

    assert voices.step(template).status == "removed"


def test_an_agent_transfers_to_no_agent_that_is_not_granted(voices: Voices, fake: FakeElevenLabs) -> None:
    """Also where the template was made with a key of the account's own, which it has no more."""
    theirs = fake.add_agent()
    tool = {"name": "transfer_to_agent", "params": {"transfers": [{"agent_id": theirs, "condition": "sales"}]}}
    template = voices.create(tools=[tool])

    state = voices.step(template)

    assert (state.status, state.code) == ("failed", "agent_not_granted")
    assert list(fake.workspace.agents) == [theirs]
    _grant(voices, template.account_id, theirs)
    assert voices.step(template).status == "synced"


def test_accounts_take_turns(voices: Voices, fake: FakeElevenLabs) -> None:
    """However many of one account are overdue, and for how long: another's first comes before its second."""
    voices.use(replace(voices.settings, elevenlabs=ProviderAccess(base_url=fake.url, api_key="wrong")))
    many, few = voices.account(), voices.account()
    overdue = [voices.create(many) for _ in range(5)]
    voices.execute("UPDATE voice_agents SET next_attempt_at = now() - interval '1 hour'")
    late = voices.create(few)

    assert voices.sync.due(1) == 1
    assert voices.sync.due(1) == 1
    assert voices.row(late).attempts == 1
    assert voices.sync.due(10) == 4
    assert [voices.row(one).attempts for one in overdue] == [1] * 5
