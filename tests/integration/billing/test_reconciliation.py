"""What providers know of calls, against what we know: nothing is missing afterwards, and nothing is there twice."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from billing.ledger import charge
from relay.calls import TRUST_KEY, TRUST_SOURCE, CallEvent, Ending, Facts, derived_session_id
from relay.directory import Mirror
from relay.outbox import Outbox
from relay.providers.retell import ACCOUNT_LABEL
from relay.reconciliation import Reconciler, relaying
from relay.reconciliation.days import begins
from relay.store import agora_agents, erasure, rate_cards, sessions
from relay.store.reconciliations import Compared, compared
from relay.telemetry import logs
from tests.customers import Customer
from tests.integration.billing.called import (
    AGENT,
    HOOK,
    HOUR,
    OWN_KEY,
    World,
    ago,
    counted,
    list_of,
    one_customer,
    one_world,
    the_database,
    the_providers,
    the_settings,
    transcription,
)

__all__ = ["one_customer", "one_world", "the_database", "the_providers", "the_settings"]

APPID = "0123456789abcdef0123456789abcdef"
# Before what a list that was never read begins with.
LONG_AGO = timedelta(days=6)
MINUTE = [("charge", Decimal("0.1"))]


def told(world: World, account_id: str, conversation_id: str, *, seconds: str | None, began: int, **more: int) -> None:
    """A terminal event of a source of the account's own was charged."""
    call = CallEvent(
        provider="elevenlabs",
        kind="post_call_transcription",
        event_class="complete",
        conversation_id=conversation_id,
        ending=Ending(status="completed", duration_seconds=seconds, started_at_ms=began * 1000),
    )
    facts = Facts(
        event_id="evt_1",
        account_id=account_id,
        call=call,
        session_id=derived_session_id(account_id, "elevenlabs", conversation_id),
        accepted_at_ms=began * 1000 + 90_000,
        trust=more.get("trust", TRUST_SOURCE),
    )
    with world.database.begin() as connection:
        charge(connection, [facts])


def test_charges_and_relays_a_conversation_whose_webhook_never_came(world: World, customer: Customer) -> None:
    """Once, with the provider's own bytes in the webhook's form; what was fetched says so."""
    began = ago(HOUR)
    name = world.conversation(AGENT, began=began, seconds=90, cost=296, cost_fiat=0.31)
    assert counted(world.reconciled(), "elevenlabs") == {"found": 1, "relayed": 1}
    (session,) = world.sessions(customer.id)
    assert (session.conversation_id, session.status, session.billed_seconds) == (name, "completed", 90)
    assert (session.provider_cost_usd, session.provider_credits) == (Decimal("0.31"), Decimal(296))
    assert world.ledger(customer.id) == [("charge", Decimal("0.15"))]
    ((event_id, body),) = world.sent(customer.id).items()
    head = b'{"type":"post_call_transcription","event_timestamp":%d,"data":' % (int(began.timestamp()) + 90)
    kept = {"transcript": [], "metadata": json.loads(body)["data"]["metadata"]}
    assert body == head + json.dumps(kept | world.elevenlabs.workspace.conversations[name]).encode() + b"}"
    row = world.facts_of(event_id, customer.id)
    assert (row["event_class"], row["conversation_id"], row["session_id"]) == ("complete", name, session.id)
    assert [day.found for day in world.days(account_id=customer.id)] == [1]


def test_a_second_reading_changes_nothing(world: World, customer: Customer) -> None:
    """The same calls are listed again, and nothing more is charged, sent, or asked for one by one."""
    world.conversation(AGENT, began=ago(HOUR))
    world.call(AGENT, began=ago(HOUR))
    world.reconciled()
    assert len(world.sent(customer.id)) == 2
    for fake in (world.elevenlabs, world.retell):
        fake.requests.clear()
    for key in world.client.keys("sw:event:*"):
        world.client.delete(key)  # Redis remembers for a day, the records for a month
    again = world.reconciled(since=ago(3 * HOUR))
    assert (counted(again, "elevenlabs"), counted(again, "retell")) == ({}, {})
    assert world.sent(customer.id) == {}
    assert world.ledger(customer.id) == MINUTE * 2
    assert {seen.path for seen in world.elevenlabs.requests} == {"/v1/convai/conversations"}
    assert {seen.path for seen in world.retell.requests} == {"/v3/list-calls"}


@pytest.mark.parametrize("is_sent", [False, True], ids=["while it waits", "after it was delivered"])
def test_a_webhook_that_comes_afterwards_is_a_repeat(world: World, customer: Customer, is_sent: bool) -> None:
    """Neither its charge nor its delivery is made again, though its timestamp is its own."""
    inlet = customer.source("elevenlabs")
    name = world.conversation(AGENT, began=ago(HOUR))
    world.reconciled()
    if is_sent:
        assert len(world.sent(customer.id)) == 1
    late = transcription(world.elevenlabs.workspace.conversations[name], timestamp=1_794_999_999)
    assert world.webhook(inlet, "elevenlabs", late)["repeat"] is True
    assert len(world.sent(customer.id)) == (0 if is_sent else 1)
    assert world.ledger(customer.id) == MINUTE


def test_a_call_that_was_told_is_left_alone(world: World, customer: Customer) -> None:
    """Its webhook came: nobody asks for it, charges it or sends it."""
    inlet = customer.source("elevenlabs")
    name = world.conversation(AGENT, began=ago(HOUR))
    said = transcription(world.elevenlabs.workspace.conversations[name], timestamp=1_794_999_999)
    world.webhook(inlet, "elevenlabs", said)
    assert len(world.sent(customer.id)) == 1
    assert counted(world.reconciled(), "elevenlabs") == {}
    assert world.sent(customer.id) == {}
    assert world.ledger(customer.id) == MINUTE


def test_a_call_under_way_or_hardly_over_is_waited_for(world: World, customer: Customer) -> None:
    """Its webhook may still come."""
    world.conversation(AGENT, began=ago(HOUR), status="in-progress")
    world.conversation(AGENT, began=ago(timedelta(minutes=10)))
    assert list_of(world.reconciled(), "elevenlabs").tally.read == 0
    assert world.sessions(customer.id) == []


def test_rates_a_session_that_could_not_be_rated(world: World, customer: Customer) -> None:
    """Its webhook said nothing of its length; the provider's list does."""
    began = ago(HOUR)
    name = world.conversation(AGENT, began=began)
    told(world, customer.id, name, seconds=None, began=int(began.timestamp()))
    assert world.ledger(customer.id) == []
    assert counted(world.reconciled(), "elevenlabs")["rated"] == 1
    assert world.ledger(customer.id) == MINUTE
    assert world.sessions(customer.id)[0].unrated_reason is None


def test_the_provider_corrects_what_an_account_has_told(world: World, customer: Customer) -> None:
    """A shorter end, signed with the account's own secret, is taken back and charged anew, once."""
    began = ago(HOUR)
    name = world.conversation(AGENT, began=began, seconds=120)
    told(world, customer.id, name, seconds="6", began=int(began.timestamp()))
    report = world.reconciled()
    assert counted(report, "elevenlabs")["corrected"] == 1
    assert list_of(report, "elevenlabs").tally.difference_seconds == 114
    amounts = [("charge", Decimal("0.01")), ("reversal", Decimal("-0.01")), ("charge", Decimal("0.2"))]
    assert world.ledger(customer.id) == amounts
    world.reconciled()
    assert world.ledger(customer.id) == amounts


def test_a_call_is_charged_by_its_start_once_its_provider_has_told_it(world: World, customer: Customer) -> None:
    """A customer's own `complete` tells none, and is rated by when it came; a second reading finds nothing more."""
    began = ago(HOUR)
    name = world.conversation(AGENT, began=began, seconds=60)
    with world.database.begin() as connection:
        rate_cards.add(
            connection, customer.id, per_minute=Decimal("0.50"), effective_from=began + timedelta(seconds=30)
        )
    call = CallEvent(
        provider="elevenlabs",
        kind="complete",
        event_class="complete",
        conversation_id=name,
        ending=Ending(status="completed", duration_seconds="60"),
    )
    facts = Facts(
        event_id="evt_1",
        account_id=customer.id,
        call=call,
        session_id=derived_session_id(customer.id, "elevenlabs", name),
        accepted_at_ms=int(began.timestamp() * 1000) + 60_000,
        trust=TRUST_KEY,
    )
    with world.database.begin() as connection:
        charge(connection, [facts])
    assert world.ledger(customer.id) == [("charge", Decimal("0.5"))]
    assert counted(world.reconciled(), "elevenlabs")["corrected"] == 1
    assert sum(amount for _, amount in world.ledger(customer.id)) == Decimal("0.1")
    assert "corrected" not in counted(world.reconciled(since=ago(3 * HOUR)), "elevenlabs")


def test_a_forged_end_does_not_hide_what_the_provider_has_told(world: World, customer: Customer) -> None:
    """What the account said is taken back until the list says how long it was."""
    began = ago(HOUR)
    name = world.conversation(AGENT, began=began, seconds=120)
    told(world, customer.id, name, seconds="1", began=int(began.timestamp()))
    told(world, customer.id, name, seconds=None, began=int(began.timestamp()), trust=2)
    assert sum(amount for _, amount in world.ledger(customer.id)) == 0
    world.reconciled()
    assert sum(amount for _, amount in world.ledger(customer.id)) == Decimal("0.2")


def test_an_agent_of_nobody_here_is_unassigned(world: World, customer: Customer) -> None:
    """The operator's key opens more than what is anybody's; and what an agent did before it was granted is not its."""
    world.conversation("agent_of_somebody", began=ago(HOUR))
    customer.grant("elevenlabs", "agent_granted_since")
    world.conversation("agent_granted_since", began=ago(HOUR))
    assert counted(world.reconciled(), "elevenlabs") == {"unassigned": 2}
    assert world.sessions(customer.id) == []


def test_another_accounts_conversation_is_not_relayed_to_who_names_it(world: World, customer: Customer) -> None:
    """Who tells of a conversation that nobody can prove pays for it, and sees nothing of it."""
    began = ago(HOUR)
    forged = world.conversation("agent_of_somebody", began=began)
    told(world, customer.id, forged, seconds="1", began=int(began.timestamp()))
    begun = world.conversation("agent_of_somebody", began=began)
    with world.database.begin() as connection:
        made = sessions.create(connection, account_id=customer.id, provider="elevenlabs")
        sessions.begun(connection, account_id=customer.id, session_id=made.id, conversation_id=begun)
    assert counted(world.reconciled(), "elevenlabs") == {"corrected": 1, "found": 1}
    assert world.sent(customer.id) == {}
    other = world.customer()
    claimed = world.conversation(AGENT, began=began)
    told(world, other.id, claimed, seconds="1", began=int(began.timestamp()))
    assert counted(world.reconciled(), "elevenlabs") == {"found": 1, "relayed": 1}
    assert (len(world.sent(customer.id)), len(world.sent(other.id))) == (1, 0)
    assert world.ledger(other.id) == [("charge", Decimal("0.001667"))]


def test_an_accounts_own_key_lists_for_that_account_alone(world: World, customer: Customer) -> None:
    """Only calls of agents that are reported to us; those of its other agents are not ours to charge."""
    owner = world.customer()
    owner.provider_key("elevenlabs", OWN_KEY)
    owner.endpoint(HOOK)
    mine = world.conversation("agent_in_own_workspace", began=ago(HOUR), key=OWN_KEY)
    assert counted(world.reconciled(), "elevenlabs", owner.id) == {"unassigned": 1}
    owner.source("elevenlabs")
    world.grown_old()
    report = world.reconciled()
    assert counted(report, "elevenlabs", owner.id) == {"found": 1, "relayed": 1}
    assert counted(report, "elevenlabs") == {}
    assert [one.conversation_id for one in world.sessions(owner.id)] == [mine]
    assert world.sessions(customer.id) == []


def test_a_crash_between_charge_and_relay_is_made_good(
    world: World, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was charged and not sent is sent by the next turn, and not charged again."""
    world.call(AGENT, began=ago(HOUR))

    def dies(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(relaying.Relaying, "relay", dies)
        with pytest.raises(KeyboardInterrupt):
            world.reconciled(provider="retell")
    assert world.sent(customer.id) == {}
    assert world.ledger(customer.id) == MINUTE
    assert counted(world.reconciled(provider="retell"), "retell") == {"relayed": 1}
    ((event_id, body),) = world.sent(customer.id).items()
    assert json.loads(body)["event"] == "call_analyzed"
    assert world.facts_of(event_id, customer.id)["kind"] == "call_analyzed"
    assert world.ledger(customer.id) == MINUTE


def test_a_call_begun_here_is_known_by_its_label(world: World) -> None:
    """Retell gives back what it was labelled with: whose agent it is does not matter."""
    customer = world.customer()
    world.call("agent_of_all", began=ago(HOUR), metadata={ACCOUNT_LABEL: customer.id})
    world.call("agent_of_all", began=ago(HOUR), metadata={ACCOUNT_LABEL: "acc_" + "a" * 26})
    assert counted(world.reconciled(), "retell") == {"found": 1, "relayed": 1, "unassigned": 1}
    (session,) = world.sessions(customer.id)
    assert (session.provider_cost_usd, session.status) == (Decimal("0.07"), "completed")


def test_a_call_in_error_is_relayed_as_ended(world: World, customer: Customer) -> None:
    """It is not analyzed; its `call_ended` is what completes it."""
    world.call(AGENT, began=ago(HOUR), call_status="error")
    world.reconciled()
    (body,) = world.sent(customer.id).values()
    assert json.loads(body)["event"] == "call_ended"
    assert world.sessions(customer.id)[0].status == "failed"


def test_all_pages_are_read(world: World, customer: Customer) -> None:
    """A list has a hundred calls on a page, at most."""
    began = ago(3 * HOUR)
    for number in range(101):
        world.conversation(AGENT, began=began + timedelta(seconds=number), seconds=0)
        world.call(AGENT, began=began, seconds=0)
    # None of them is fetched: they have all been told of.
    world.execute(
        "INSERT INTO sessions (account_id, id, provider, conversation_id, status, created_at, terminal_ms, "
        "terminal_trust, rated_at, started_at, duration_seconds, charge_sequence, livemode, text_only, deleted_at) "
        "SELECT :account, row_number() OVER (), provider, id, 'completed', now(), 1, 2, :began, NULL, 0, 0, true, "
        "false, now() FROM (SELECT 'retell' AS provider, unnest(CAST(:calls AS text[])) AS id UNION ALL "
        "SELECT 'elevenlabs', unnest(CAST(:conversations AS text[]))) told",
        account=customer.id,
        began=began,
        calls=list(world.retell.calls),
        conversations=list(world.elevenlabs.workspace.conversations),
    )
    report = world.reconciled()
    assert [list_of(report, name).tally.read for name in ("elevenlabs", "retell")] == [101, 101]
    assert counted(report, "elevenlabs") == {}


def test_an_outage_costs_nothing_but_time(world: World, customer: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is warned of, the others are read, and the next turn goes on where it stood."""
    said: list[str] = []
    monkeypatch.setattr(logs, "warning", lambda event, **_: said.append(event))
    world.conversation(AGENT, began=ago(HOUR))
    world.call(AGENT, began=ago(HOUR))
    world.elevenlabs.fail_next(500, times=100)
    report = world.reconciled()
    assert [list_of(report, name).outcome for name in ("elevenlabs", "retell")] == ["failed", "done"]
    assert "list_not_read" in said
    assert len(world.ledger(customer.id)) == 1
    world.elevenlabs.recover()
    assert counted(world.reconciled(), "elevenlabs") == {"found": 1, "relayed": 1}


def test_time_is_up_before_anything_new_is_begun(world: World, customer: Customer) -> None:
    """A turn without time reads nothing, and is told so."""
    world.conversation(AGENT, began=ago(HOUR))
    assert list_of(world.reconciled(seconds=0), "elevenlabs").outcome == "postponed"
    assert world.sessions(customer.id) == []


def test_two_turns_at_once_read_a_list_once(world: World, customer: Customer) -> None:
    """The second finds it taken, and charges nothing."""
    world.conversation(AGENT, began=ago(HOUR))
    inside, go_on = threading.Event(), threading.Event()

    def wait(_: object) -> None:
        world.elevenlabs.before = lambda _: None
        inside.set()
        assert go_on.wait(10)

    world.elevenlabs.before = wait
    first = threading.Thread(target=lambda: world.reconciled(provider="elevenlabs"))
    first.start()
    assert inside.wait(10)
    assert list_of(world.reconciled(provider="elevenlabs"), "elevenlabs").outcome == "busy"
    go_on.set()
    first.join(10)
    assert world.ledger(customer.id) == MINUTE


@pytest.mark.parametrize("how", ["erased", "deleted"])
def test_what_its_customer_erased_is_not_fetched_back(world: World, customer: Customer, how: str) -> None:
    """It is charged by its list, and nothing of it is sent; nor of what is older than content is kept."""
    name = world.conversation(AGENT, began=ago(HOUR))
    with world.database.begin() as connection:
        made = sessions.create(connection, account_id=customer.id, provider="elevenlabs")
        sessions.begun(connection, account_id=customer.id, session_id=made.id, conversation_id=name)
        (erasure.mark if how == "erased" else sessions.remove)(connection, account_id=customer.id, session_id=made.id)
    world.settings = replace(world.settings, retention=timedelta(hours=24))
    world.conversation(AGENT, began=ago(timedelta(hours=30)))
    assert counted(world.reconciled(since=ago(timedelta(hours=40))), "elevenlabs") == {"found": 2}
    assert world.sent(customer.id) == {}
    assert world.ledger(customer.id) == MINUTE * 2


def test_a_restored_database_has_nothing_delivered_again(world: World, customer: Customer) -> None:
    """It was charged again, and its event is forgotten: the session says that somebody told of it."""
    began = ago(HOUR)
    name = world.conversation(AGENT, began=began)
    told(world, customer.id, name, seconds="60", began=int(began.timestamp()))
    assert counted(world.reconciled(), "elevenlabs") == {}
    assert world.sent(customer.id) == {}


def test_an_analysis_that_never_came_is_relayed(world: World, customer: Customer) -> None:
    """The call was charged by its end, and its account still waits for what completes it."""
    inlet = customer.source("retell")
    name = world.call(AGENT, began=ago(HOUR))
    shown = world.retell.calls[name]
    world.webhook(inlet, "retell", json.dumps({"event": "call_ended", "call": shown}).encode())
    assert len(world.sent(customer.id)) == 1
    assert counted(world.reconciled(), "retell") == {"relayed": 1}
    (body,) = world.sent(customer.id).values()
    assert json.loads(body)["event"] == "call_analyzed"
    assert world.ledger(customer.id) == MINUTE
    assert counted(world.reconciled(), "retell") == {}


def test_content_that_the_provider_has_deleted_is_charged_all_the_same(world: World, customer: Customer) -> None:
    """By its list alone."""
    name = world.conversation(AGENT, began=ago(HOUR))
    world.elevenlabs.fail_next(404, on=f"GET /v1/convai/conversations/{name}")
    assert counted(world.reconciled(), "elevenlabs") == {"found": 1}
    assert world.ledger(customer.id) == MINUTE


def test_an_agent_of_agora_is_charged_by_what_it_says_when_asked(world: World) -> None:
    """Its list does not say when an agent stopped; nothing is relayed, because there is nothing."""
    customer = world.customer()
    agent_id = an_agora_session(world, customer, lasted=120)
    assert counted(world.reconciled(), "agora") == {"found": 1}
    (session,) = world.sessions(customer.id)
    assert (session.conversation_id, session.status, session.billed_seconds) == (agent_id, "completed", 120)
    asked = len(world.agora.requests)
    assert counted(world.reconciled(), "agora") == {}
    assert len(world.agora.requests) == asked + 1  # the list alone


def an_agora_session(world: World, customer: Customer, *, lasted: int | None) -> str:
    """An agent that joined two hours ago, by its id, and left after so many seconds; its session is pending."""
    customer.grant("agora", APPID)
    with world.database.begin() as connection:
        made = sessions.create(connection, account_id=customer.id, provider="agora")
        agora_agents.claim(connection, account_id=customer.id, appid=APPID, name="a", channel="c", session_id=made.id)
        _, started = world.agora._join(APPID, AGORA_BODY)
        assert started is not None
        agent_id: str = started["agent_id"]
        agora_agents.joined(connection, account_id=customer.id, session_id=made.id, agent_id=agent_id)
        sessions.begun(connection, account_id=customer.id, session_id=made.id, conversation_id=agent_id)
    agent = world.agora.agents[agent_id]
    agent.start_ts = int(ago(2 * HOUR).timestamp())
    agent.stop_ts = None if lasted is None else agent.start_ts + lasted
    return agent_id


AGORA_BODY = {
    "name": "a",
    "properties": {
        "channel": "c", "token": "t", "agent_rtc_uid": "1", "remote_rtc_uids": ["2"], "mllm": {"url": "u"},
    },
}  # fmt: skip


@pytest.mark.parametrize("has_ended", [True, False], ids=["ended", "goes on"])
def test_a_session_that_is_stuck_is_asked_for_once(world: World, customer: Customer, has_ended: bool) -> None:
    """What has ended is charged; what has not is left to be abandoned, and nobody asks again."""
    name = world.call(AGENT, began=ago(LONG_AGO), call_status="ended" if has_ended else "ongoing")
    with world.database.begin() as connection:
        made = sessions.create(connection, account_id=customer.id, provider="retell")
        sessions.begun(connection, account_id=customer.id, session_id=made.id, conversation_id=name)
    world.execute("UPDATE sessions SET created_at = now() - interval '30 hours'")
    world.elevenlabs.fail_next(500, times=9)  # a list that fails keeps nobody from asking
    report = world.reconciled()
    assert (report.stuck.asked, report.stuck.counted()["found"]) == (1, int(has_ended))
    (session,) = world.sessions(customer.id)
    assert (session.status, session.cost) == (("completed", Decimal("0.1")) if has_ended else ("active", None))
    assert session.asked_at is not None
    world.elevenlabs.recover()
    assert world.reconciled().stuck.asked == 0


def test_a_session_is_not_asked_for_before_it_may_have_ended(world: World, customer: Customer) -> None:
    """Its template says how long it may last; without one it is a day."""
    template = customer.template(None, name="Short").template
    world.execute("UPDATE templates SET config = '{\"maxDurationSeconds\": 600}' WHERE id = :id", id=template.id)
    names = []
    for template_id in (template.id, None):
        names.append(name := world.call(AGENT, began=ago(LONG_AGO), call_status="ongoing"))
        with world.database.begin() as connection:
            made = sessions.create(connection, account_id=customer.id, provider="retell", template_id=template_id)
            sessions.begun(connection, account_id=customer.id, session_id=made.id, conversation_id=name)
    world.execute("UPDATE sessions SET created_at = now() - interval '2 hours'")
    assert world.reconciled().stuck.asked == 1
    asked = {one.conversation_id: one.asked_at is not None for one in world.sessions(customer.id)}
    assert asked == dict(zip(names, (True, False), strict=True))


def test_a_provider_that_is_away_is_asked_again(world: World, customer: Customer) -> None:
    """Only an answer counts as having asked."""
    name = world.call(AGENT, began=ago(LONG_AGO))
    with world.database.begin() as connection:
        made = sessions.create(connection, account_id=customer.id, provider="retell")
        sessions.begun(connection, account_id=customer.id, session_id=made.id, conversation_id=name)
    world.execute("UPDATE sessions SET created_at = now() - interval '30 hours'")
    world.retell.fail_next(503, times=9)
    assert world.reconciled().stuck.asked == 0
    world.retell._failures.clear()
    assert world.reconciled().stuck.asked == 1


def test_a_day_is_compared_when_it_is_over(world: World, customer: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls, seconds, what was charged and what the provider asked for; a difference that stays is an alarm."""
    alarms: list[str] = []
    monkeypatch.setattr(logs, "alarm", lambda event, **_: alarms.append(event))
    noon = ago(timedelta()).replace(hour=12, minute=0, second=0) - timedelta(days=1)
    for number in range(2):
        world.conversation(AGENT, began=noon + number * HOUR, seconds=60, cost_fiat=0.04)
    world.conversation(AGENT, began=noon - timedelta(days=1), seconds=30)
    report = world.reconciled(since=noon.replace(hour=0) - timedelta(days=1))
    yesterday, before = world.days(account_id=customer.id)
    assert (yesterday.day, yesterday.sessions, yesterday.provider_sessions, yesterday.found) == (noon.date(), 2, 2, 2)
    assert yesterday.duration_seconds == yesterday.provider_duration_seconds == Decimal(120)
    assert (yesterday.amount, yesterday.currency, yesterday.provider_cost_usd) == (
        Decimal("0.2"),
        "USD",
        Decimal("0.08"),
    )
    assert (yesterday.margin, before.margin, yesterday.differs) == (Decimal("0.12"), None, False)
    assert list_of(report, "elevenlabs").days == [before, yesterday]
    assert "reconciliation_difference" not in alarms
    told(world, customer.id, "conv_of_nobody", seconds="60", began=int(noon.timestamp()))
    world.execute("UPDATE sessions SET agent_id = :agent WHERE conversation_id = 'conv_of_nobody'", agent=AGENT)
    world.reconciled(since=noon.replace(hour=0))
    (newer, _) = world.days(account_id=customer.id)
    assert (newer.sessions, newer.provider_sessions, newer.found, newer.differs) == (3, 2, 2, True)
    assert alarms.count("reconciliation_difference") == 1


def test_days_are_compared_by_themselves(world: World, customer: Customer) -> None:
    """By the first turn that is late enough, and once; the day before is looked at again."""
    day = (ago(timedelta(hours=27))).date()
    world.reconciled()
    world.execute("UPDATE reconciliation_runs SET compared_through = :day", day=day - timedelta(days=1))
    began = ago(timedelta(hours=27)).replace(hour=0, minute=0, second=1)
    world.conversation(AGENT, began=began)
    world.conversation(AGENT, began=began - timedelta(hours=1), seconds=30)
    assert counted(world.reconciled(), "elevenlabs")["found"] == 2
    assert [(one.day, one.sessions) for one in world.days(account_id=customer.id)] == [
        (day, 1),
        (day - timedelta(days=1), 1),
    ]
    assert list_of(world.reconciled(), "elevenlabs").days == []
    world.execute("UPDATE reconciliations SET sessions = 2, provider_cost_usd = 0.04 WHERE day = :day", day=day)
    world.reconciled()
    assert Mirror(world.client, world.ring).compared()["elevenlabs"] == Compared(
        begins=begins(day).timestamp(),
        accounts=1,
        differing=1,
        sessions=2,
        provider_sessions=1,
        duration_seconds=60,
        provider_duration_seconds=60,
        provider_cost_usd=0.04,
        margin_usd=0.06,
    )
    world.execute("UPDATE reconciliations SET provider_cost_usd = NULL")
    # Another list has not come so far, and one is read no more; on the day of the former there was nothing.
    runs = "INSERT INTO reconciliation_runs (account_id, provider, through, compared_through) "
    late, gone = day - timedelta(days=3), day - timedelta(days=9)
    world.execute(runs + "VALUES ('acc_late', 'elevenlabs', now(), :day)", day=late)
    world.execute(runs + "VALUES ('acc_gone', 'elevenlabs', :day, :day)", day=gone)
    with world.database.begin() as connection:
        found = compared(connection)
    assert (found["elevenlabs"].begins, found["elevenlabs"].accounts) == (begins(late).timestamp(), 0)
    assert (found["elevenlabs"].differing, found["elevenlabs"].margin_usd) == (0, None)


def test_sessions_of_another_workspace_are_in_no_comparison(world: World, customer: Customer) -> None:
    """An account that has some agents of ours, and reports others by a source of its own, is compared by the former."""
    noon = ago(timedelta()).replace(hour=12, minute=0, second=0) - timedelta(days=1)
    told(world, customer.id, "conv_elsewhere", seconds="60", began=int(noon.timestamp()))
    world.conversation(AGENT, began=noon)
    world.reconciled(since=noon.replace(hour=0))
    (day,) = world.days(account_id=customer.id)
    assert (day.sessions, day.provider_sessions) == (1, 1)


def test_the_last_turns_numbers_are_kept_for_the_metrics(world: World, customer: Customer) -> None:
    """By provider: what was missing, what is nobody's, and how many seconds were charged wrongly."""
    world.conversation(AGENT, began=ago(HOUR))
    world.conversation("agent_of_somebody", began=ago(HOUR))
    reconciler = Reconciler(world.settings, world.database, world.ring, world.client)
    reconciler.run()
    assert reconciler._mirror.reconciliations() == {
        "agora": (0, 0, 0.0), "elevenlabs": (1, 1, 60.0), "retell": (0, 0, 0.0),
    }  # fmt: skip
    assert world.sessions(customer.id)
    assert msgspec.json.encode(reconciler.run().shown())
    assert Outbox(world.client).audit("relay").unaccounted == 0
