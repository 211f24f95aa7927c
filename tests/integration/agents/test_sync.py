"""Voice agents follow their templates, whatever fails in between: each ends with one agent, and none is left over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from relay.agents import spec
from relay.agents.sync import wait
from relay.errors import NotFound
from relay.providers.rest.client import Rest
from relay.settings import ProviderAccess
from relay.store import provider_keys
from tests.fakes.elevenlabs import FakeElevenLabs
from tests.fakes.server import DROPPED
from tests.integration.agents.voices import CREATE, Owned, Voices, once
from workers import upkeep

ONE_OF_EACH: Final = (1, 2, 1)
# More calls than a try makes.
_ENOUGH: Final = 30


class Crash(BaseException):
    """The process dies here."""


def _crash_after(patch: pytest.MonkeyPatch, calls: int) -> None:
    """Die once this many calls were answered by the provider."""
    fetch, left = Rest.fetch, iter(range(calls))

    def dying(self: Rest, *args: Any, **options: Any) -> bytes:
        body = fetch(self, *args, **options)
        if next(left, None) is None:
            raise Crash
        return body

    patch.setattr(Rest, "fetch", dying)


def test_makes_the_agent_of_a_new_template(voices: Voices, fake: FakeElevenLabs) -> None:
    """It has its tools and the webhook, and its events find the template."""
    template = voices.create(tag="pilot")

    state = voices.step(template)

    assert (state.status, state.code) == ("synced", None)
    assert state.agent_id is not None
    assert voices.at_provider() == ONE_OF_EACH
    agent = fake.workspace.agents[state.agent_id]
    assert agent["tags"] == [voices.marker(template), "pilot"]
    assert agent["conversation_config"]["agent"]["prompt"]["tool_ids"] == list(fake.workspace.tools)
    hooks = agent["platform_settings"]["workspace_overrides"]["webhooks"]
    assert [hooks["post_call_webhook_id"]] == list(fake.workspace.webhooks)
    assert voices.stored(template).agent_id == state.agent_id
    assert voices.mirror.templates_of_agent("elevenlabs", state.agent_id) == [(template.account_id, template.id)]


def test_changes_the_agent_of_a_changed_template(voices: Voices, fake: FakeElevenLabs) -> None:
    """The same agent and the same tools, as the template is now."""
    template = voices.create()
    first = voices.step(template)
    tools = list(fake.workspace.tools)

    voices.change(template, systemPrompt="Ask sternly.")
    state = voices.step(template)

    assert state == first
    assert state.agent_id is not None
    config = fake.workspace.agents[state.agent_id]["conversation_config"]
    assert config["agent"]["prompt"]["prompt"] == "Ask sternly."
    assert (list(fake.workspace.tools), voices.at_provider()) == (tools, ONE_OF_EACH)


def test_asks_the_provider_nothing_when_nothing_has_changed(voices: Voices, fake: FakeElevenLabs) -> None:
    """Whoever asks how things stand only reads."""
    template = voices.create()
    first = voices.step(template)
    calls = len(fake.requests)

    assert (voices.step(template), voices.sync.due(10), len(fake.requests)) == (first, 0, calls)


def test_a_template_without_an_agent_is_told_so(voices: Voices) -> None:
    """There is nothing to bring about."""
    with pytest.raises(NotFound):
        voices.sync.template(voices.account(), 1)


def test_an_outage_is_waited_for(voices: Voices, fake: FakeElevenLabs) -> None:
    """The template is saved and pending; upkeep tries again when its time has come, and not before."""
    template = voices.create()
    fake.fail_next(500, times=3)

    state = voices.step(template)

    assert (state.status, state.code) == ("pending", "provider_unavailable")
    left = voices.row(template).next_attempt_at - datetime.now(UTC)
    assert timedelta(seconds=5) < left <= timedelta(seconds=15)
    assert voices.sync.due(10) == 0
    voices.pass_waits()
    assert voices.sync.due(10) == 1
    assert (voices.row(template).status, voices.row(template).attempts) == ("synced", 0)
    assert voices.at_provider() == ONE_OF_EACH


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(1, 15), (2, 30), (3, 60), (8, 1920), (9, 3600), (10, 3600), (2000, 3600)]
)
def test_waits_longer_each_time(attempts: int, seconds: int) -> None:
    """From 15 seconds to an hour."""
    assert wait(attempts) == timedelta(seconds=seconds)


def test_what_the_provider_refuses_has_failed_until_it_is_changed(voices: Voices) -> None:
    """The customer sees that it has, and the next change is tried at once."""
    template = voices.create(voiceSettings={"speed": 9})

    state = voices.step(template)
    assert (state.status, state.code, voices.at_provider()[0]) == ("failed", "provider_failed", 0)
    assert voices.sync.due(10) == 0
    voices.change(template)
    assert voices.step(template).status == "synced"
    assert voices.at_provider() == ONE_OF_EACH


def test_what_was_refused_is_tried_again_in_an_hour(voices: Voices, fake: FakeElevenLabs) -> None:
    """The customer may have put it right at the provider."""
    template = voices.create()
    fake.fail_next(400)
    voices.step(template)

    left = voices.row(template).next_attempt_at - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    voices.pass_waits()
    assert voices.sync.due(10) == 1
    assert voices.row(template).status == "synced"


@pytest.mark.parametrize(("key", "code"), [("", "provider_not_configured"), ("wrong", "provider_key_refused")])
def test_a_key_that_is_missing_or_wrong_is_a_failure(voices: Voices, fake: FakeElevenLabs, key: str, code: str) -> None:
    """Nothing but another key helps."""
    right = voices.settings
    voices.use(replace(right, elevenlabs=ProviderAccess(base_url=fake.url, api_key=key)))
    template = voices.create()

    state = voices.step(template)

    assert (state.status, state.code) == ("failed", code)
    voices.use(right)
    assert voices.step(template).status == "synced"


def test_an_account_with_a_key_of_its_own_has_its_agents_there(voices: Voices, fake: FakeElevenLabs) -> None:
    """In its own workspace; ours has nothing of it."""
    theirs = fake.add_workspace("their-key")
    account_id = voices.account()
    with voices.database.begin() as connection:
        provider_keys.put(connection, voices.ring, account_id=account_id, provider="elevenlabs", key="their-key")

    state = voices.step(voices.create(account_id))

    assert list(theirs.agents) == [state.agent_id]
    assert voices.at_provider() == (0, 0, 0)


@pytest.mark.parametrize("status", [500, DROPPED])
@pytest.mark.parametrize("call", [CREATE, "POST /v1/convai/tools", "POST /v1/workspace/webhooks"])
def test_what_was_made_without_our_knowing_is_found_again(
    voices: Voices, fake: FakeElevenLabs, call: str, status: int
) -> None:
    """The provider acted and the answer was lost: the next try takes over what it left, or makes it anew."""
    template = voices.create()
    fake.fail_next(status, on=call, acted=True)

    assert voices.step(template).status == "pending"
    assert voices.step(template).status == "synced"

    assert voices.at_provider() == ONE_OF_EACH
    assert list(fake.workspace.agents) == [voices.stored(template).agent_id]


def test_of_several_agents_that_were_left_one_stays(voices: Voices, fake: FakeElevenLabs) -> None:
    """Several tries may each have made one without knowing."""
    template = voices.create()
    fake.fail_next(500, times=3)
    voices.step(template)
    tag = voices.marker(template)
    left, _, other = fake.add_agent(tags=[tag]), fake.add_agent(tags=[tag]), fake.add_agent(tags=[f"{tag}0"])

    assert voices.step(template).agent_id == left
    assert list(fake.workspace.agents) == [left, other]


def test_a_crash_after_any_answer_of_the_provider_is_repaired(voices: Voices) -> None:
    """Wherever a process dies, the next one ends with one agent, two tools and one webhook for each template."""
    for crashes in range(_ENOUGH):
        template = voices.create()
        has_crashed = False
        with pytest.MonkeyPatch.context() as patch:
            _crash_after(patch, crashes)
            try:
                voices.step(template)
            except Crash:
                has_crashed = True
        assert voices.row(template).status == ("pending" if has_crashed else "synced")
        voices.end_leases()
        assert voices.step(template).status == "synced"
        assert voices.at_provider() == (crashes + 1, 2 * crashes + 2, crashes + 1), f"after {crashes} calls"
        if not has_crashed:
            break
    else:
        pytest.fail("a try never came to its end")
    assert crashes > 5


def test_a_crash_while_removing_is_repaired(voices: Voices) -> None:
    """Wherever a process dies, the next one leaves nothing behind."""
    account_id = voices.account()
    for crashes in range(_ENOUGH):
        template = voices.create(account_id)
        voices.step(template)
        voices.delete(template)
        has_crashed = False
        with pytest.MonkeyPatch.context() as patch:
            _crash_after(patch, crashes)
            try:
                voices.step(template)
            except Crash:
                has_crashed = True
        voices.end_leases()
        assert voices.step(template).status == "removed"
        assert voices.at_provider() == (0, 0, 1), f"after {crashes} calls"
        if not has_crashed:
            break
    else:
        pytest.fail("a try never came to its end")
    assert crashes > 3


def test_an_agent_that_somebody_deleted_is_made_anew(voices: Voices, fake: FakeElevenLabs) -> None:
    """At the next change; its template goes on with the new one."""
    template = voices.create()
    first = voices.step(template)
    fake.workspace.agents.clear()
    fake.workspace.tools.clear()

    voices.change(template)
    state = voices.step(template)

    assert state.agent_id != first.agent_id
    assert (voices.at_provider(), voices.stored(template).agent_id) == (ONE_OF_EACH, state.agent_id)


def test_an_agent_is_not_taken_for_gone_because_of_what_it_names(voices: Voices, fake: FakeElevenLabs) -> None:
    """404 may be about the webhook or a tool; whoever speaks with the agent goes on."""
    template = voices.create()
    first = voices.step(template)
    fake.before = once("PATCH /v1/convai/agents", fake.workspace.webhooks.clear)

    voices.change(template)
    assert voices.step(template).status == "failed"
    assert list(fake.workspace.agents) == [first.agent_id]
    voices.pass_waits()
    voices.sync.due(10)
    assert voices.row(template).status == "synced"
    assert list(fake.workspace.agents) == [first.agent_id]


def test_a_template_without_a_url_has_an_agent_without_tools(voices: Voices, fake: FakeElevenLabs) -> None:
    """There is nobody to ask and to tell; those that it had are deleted."""
    template = voices.create()
    voices.step(template)
    voices.execute("UPDATE templates SET endpoint_id = NULL")
    voices.change(template)

    assert voices.step(template).status == "synced"
    assert voices.at_provider() == (1, 0, 1)


def test_deleting_a_template_removes_its_agent(voices: Voices) -> None:
    """And its tools; the account's webhook stays for the others."""
    template = voices.create()
    voices.step(template)

    voices.delete(template)
    state = voices.step(template)

    assert (state.status, state.agent_id) == ("removed", None)
    assert voices.at_provider() == (0, 0, 1)
    assert voices.sync.due(10) == 0


@pytest.mark.parametrize("status", [503, 401, 400])
def test_a_removal_is_not_given_up(voices: Voices, fake: FakeElevenLabs, status: int) -> None:
    """Whatever the provider answers, it stays open until the agent is gone."""
    template = voices.create()
    voices.step(template)
    voices.delete(template)
    fake.fail_next(status, times=3, on="DELETE /v1/convai/agents")

    state = voices.step(template)
    assert state.status == "removing"
    for _ in range(3):
        voices.pass_waits()
        voices.sync.due(10)
    assert (voices.row(template).status, voices.at_provider()[0]) == ("removed", 0)


def test_a_template_that_never_had_an_agent_needs_no_removal(voices: Voices, fake: FakeElevenLabs) -> None:
    """The provider is not even asked."""
    template = voices.create()

    voices.delete(template)

    assert voices.step(template).status == "removed"
    assert fake.requests == []


def test_a_template_that_is_deleted_while_its_agent_is_made_leaves_none(voices: Voices, fake: FakeElevenLabs) -> None:
    """Whoever makes it sees that it has to go."""
    template = voices.create()
    fake.before = once(CREATE, lambda: voices.delete(template))

    assert voices.step(template).status == "removed"
    assert voices.at_provider() == (0, 0, 1)


def _made_late(voices: Voices, fake: FakeElevenLabs) -> tuple[Owned, Callable[[], str]]:
    """A template whose agent was asked for in vain, and what has that agent appear after all."""
    template = voices.create()
    fake.fail_next(DROPPED, on=CREATE)
    assert voices.step(template).status == "pending"
    return template, lambda: fake.add_agent(tags=[voices.marker(template)])


def test_an_agent_that_appears_after_its_template_was_deleted_is_removed(voices: Voices, fake: FakeElevenLabs) -> None:
    """The answer was lost and the provider was slow: it is looked for once more before it is taken for gone."""
    template, appear = _made_late(voices, fake)
    voices.delete(template)
    assert voices.step(template).status == "removing"
    left = voices.row(template).next_attempt_at - datetime.now(UTC)
    assert timedelta(minutes=9) < left <= timedelta(minutes=10)
    appear()

    voices.pass_waits()
    assert voices.sync.due(10) == 1

    assert (voices.at_provider()[0], voices.row(template).status) == (0, "removing")
    voices.settle()
    assert voices.sync.due(10) == 1
    assert (voices.row(template).status, voices.sync.due(10)) == ("removed", 0)


def test_an_agent_that_appears_when_the_customer_has_brought_another_goes_with_the_template(
    voices: Voices, fake: FakeElevenLabs
) -> None:
    """What they brought is ready at once; what came late is looked for when the template is deleted."""
    template, appear = _made_late(voices, fake)
    theirs = fake.add_agent()
    voices.change(template, agent_id=theirs)
    assert voices.step(template).status == "synced"
    appear()

    voices.settle()
    voices.delete(template)

    assert voices.step(template).status == "removed"
    assert list(fake.workspace.agents) == [theirs]


@pytest.mark.parametrize("status", [400, 200])
def test_what_the_provider_has_answered_is_not_looked_for_again(
    voices: Voices, fake: FakeElevenLabs, status: int
) -> None:
    """Refused or made: nothing can appear later."""
    template = voices.create()
    if status != 200:
        fake.fail_next(status, on=CREATE)
    voices.step(template)

    voices.delete(template)

    assert voices.step(template).status == "removed"
    assert fake.workspace.agents == {}


def test_a_template_that_is_changed_while_its_agent_is_made_is_followed(voices: Voices, fake: FakeElevenLabs) -> None:
    """The change is not lost, whoever made it found the agent busy."""
    template = voices.create()
    fake.before = once(CREATE, lambda: voices.change(template, firstMessage="Hello again."))

    state = voices.step(template)

    assert (state.status, voices.at_provider()) == ("synced", ONE_OF_EACH)
    assert state.agent_id is not None
    config = fake.workspace.agents[state.agent_id]["conversation_config"]
    assert config["agent"]["first_message"] == "Hello again."


def test_an_agent_that_the_customer_brought_is_left_alone(voices: Voices, fake: FakeElevenLabs) -> None:
    """Neither made, nor changed, nor deleted."""
    template = voices.create(agent_id="agent_theirs")

    assert voices.step(template).status == "synced"
    voices.change(template, agent_id="agent_theirs")
    assert voices.step(template).status == "synced"
    voices.delete(template)
    assert voices.step(template).status == "removed"
    assert fake.requests == []


def test_an_agent_of_ours_goes_when_the_customer_brings_another(voices: Voices, fake: FakeElevenLabs) -> None:
    """Theirs stays, when the template goes too."""
    template = voices.create()
    voices.step(template)
    theirs = fake.add_agent()

    voices.change(template, agent_id=theirs)
    state = voices.step(template)

    assert (state.status, state.agent_id) == ("synced", theirs)
    assert list(fake.workspace.agents) == [theirs]
    assert voices.stored(template).agent_id == theirs
    voices.delete(template)
    assert voices.step(template).status == "removed"
    assert list(fake.workspace.agents) == [theirs]


def test_an_agent_that_is_brought_while_ours_is_made_wins(voices: Voices, fake: FakeElevenLabs) -> None:
    """Ours is removed as soon as it is there."""
    template = voices.create()
    theirs = fake.add_agent()
    fake.before = once(CREATE, lambda: voices.change(template, agent_id=theirs))

    state = voices.step(template)

    assert (state.status, state.agent_id, list(fake.workspace.agents)) == ("synced", theirs, [theirs])
    assert voices.stored(template).agent_id == theirs


def test_our_own_agent_sent_back_stays_ours(voices: Voices) -> None:
    """A client that sends a template back as it got it does not take the agent over."""
    template = voices.create()
    state = voices.step(template)

    voices.change(template, agent_id=state.agent_id, firstMessage="Hello.")

    assert voices.step(template) == state
    assert voices.at_provider() == ONE_OF_EACH
    voices.delete(template)
    assert voices.step(template).status == "removed"
    assert voices.at_provider() == (0, 0, 1)


def test_only_one_process_is_at_an_agent(voices: Voices, fake: FakeElevenLabs) -> None:
    """Whoever comes meanwhile is told that it is pending, and asks the provider nothing; upkeep passes it by."""
    template = voices.create()
    other = voices.another()
    meanwhile: list[Any] = []

    def come() -> None:
        calls = len(fake.requests)
        meanwhile.extend((other.step(template).status, other.sync.due(10), len(fake.requests) - calls))

    fake.before = once(CREATE, come)
    assert voices.step(template).status == "synced"
    assert meanwhile == ["pending", 0, 0]
    other.database.close()


def test_processes_that_come_at_once_make_one_agent(voices: Voices) -> None:
    """One works, the others see that it does."""
    template = voices.create()
    others = [voices.another() for _ in range(4)]

    with ThreadPoolExecutor(len(others)) as pool:
        states = list(pool.map(lambda one: one.step(template), others))

    assert {state.status for state in states} <= {"pending", "synced"}
    assert voices.row(template).status == "synced"
    assert voices.at_provider() == ONE_OF_EACH
    for one in others:
        one.database.close()


def test_templates_of_one_account_that_come_at_once_share_a_webhook(voices: Voices) -> None:
    """Also when it is the first of the account."""
    account_id = voices.account()
    made = [voices.create(account_id) for _ in range(3)]
    others = [voices.another() for _ in made]

    with ThreadPoolExecutor(len(made)) as pool:
        states = list(pool.map(lambda one, template: one.step(template), others, made))

    assert [state.status for state in states] == ["synced"] * 3
    assert voices.at_provider() == (3, 6, 1)
    for one in others:
        one.database.close()


def test_a_process_that_wakes_up_too_late_leaves_no_second_agent(voices: Voices, fake: FakeElevenLabs) -> None:
    """Its lease ran out, another has made the agent, and then its own request reaches the provider after all."""
    template = voices.create()
    other = voices.another()

    def overtake() -> None:
        voices.end_leases()
        assert other.step(template).status == "synced"

    fake.before = once(CREATE, overtake)
    voices.step(template)
    assert voices.at_provider()[0] == 2
    voices.pass_waits()
    voices.sync.due(10)

    assert voices.row(template).status == "synced"
    assert voices.at_provider() == ONE_OF_EACH
    assert list(fake.workspace.agents) == [voices.stored(template).agent_id]
    other.database.close()


def test_a_failure_of_ours_is_told_and_tried_again(
    voices: Voices, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One template that cannot be written down does not keep the others waiting."""
    broken, sound = voices.create(), voices.create()
    monkeypatch.setattr("relay.agents.spec.agent", _breaking_for(broken))

    assert voices.sync.due(10) == 2
    assert (voices.row(broken).status, voices.row(broken).code) == ("pending", "internal_error")
    assert voices.row(sound).status == "synced"
    assert "voice_agent_failed" in caplog.messages


def _breaking_for(broken: Owned) -> Callable[..., Any]:
    agent = spec.agent

    def breaking(template: Any, **options: Any) -> Any:
        if template.id == broken.id:
            raise KeyError("a prompt")
        return agent(template, **options)

    return breaking


def test_raises_an_alarm_when_it_goes_on(
    voices: Voices, fake: FakeElevenLabs, caplog: pytest.LogCaptureFixture
) -> None:
    """With the eighth try in a row that failed; a removal has a name of its own."""
    made, doomed = voices.create(), voices.create()
    voices.step(doomed)
    voices.delete(doomed)
    voices.execute("UPDATE voice_agents SET attempts = 7")
    fake.fail_next(400, times=10)

    for template in (made, doomed):
        voices.step(template)

    alarms = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert alarms == ["voice_agent_not_synced", "voice_agent_not_removed"]


def test_nothing_that_the_provider_says_is_kept(
    voices: Voices, fake: FakeElevenLabs, caplog: pytest.LogCaptureFixture
) -> None:
    """Its texts quote prompts."""
    caplog.set_level(logging.DEBUG)
    template = voices.create(systemPrompt="the caller's own words")
    fake.fail_next(400, times=3, on=CREATE)

    voices.step(template)

    shown = [repr(voices.row(template)), *(repr(vars(record)) for record in caplog.records)]
    assert any("provider_failed" in text for text in shown)
    assert not [text for text in shown if "own words" in text]


def test_upkeep_syncs_and_counts(voices: Voices, fake: FakeElevenLabs) -> None:
    """What is due is tried; what stays open is counted for the metrics."""
    voices.create()
    fake.fail_next(400, on=CREATE)

    assert upkeep.sync_agents(voices.sync, voices.mirror, voices.database) == 1
    assert voices.mirror.unsynced_agents() == {"pending": 0, "failed": 1, "removing": 0}
    voices.pass_waits()
    assert upkeep.sync_agents(voices.sync, voices.mirror, voices.database) == 1
    assert voices.mirror.unsynced_agents() == {"pending": 0, "failed": 0, "removing": 0}
