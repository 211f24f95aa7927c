"""Bills under races, late templates, tests' events and stand-ins for conversations."""

from __future__ import annotations

import itertools
import threading
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from billing.ledger import charge
from relay.calls import TRUST_KEY, TRUST_SOURCE, Facts, derived_session_id
from relay.errors import Conflict
from relay.sealing import KeyRing
from relay.store import grants, rate_cards, records, sessions, templates
from relay.store.database import Database
from relay.store.rate_cards import Scope
from tests.integration.billing.told import (
    START_MS,
    an_account,
    ended,
    ledger_of,
    one_database,
    owed,
    tamper,
    the_session,
    violations,
    write,
)
from tests.waiting import eventually

# One for all tests here.
__all__ = ["one_database"]

_RING = KeyRing("a passphrase for tests only, long enough to be taken")


def a_template(database: Database, account_id: str, *, tag: str = "vip", per_minute: str | None = "6") -> int:
    """A template with a tag, and a rate card of its own unless it has no price."""
    with database.begin() as connection:
        made = templates.create(
            connection, _RING, account_id=account_id, name="T", type="conversation", config={"tag": tag}
        ).template
        if per_minute is not None:
            scope = Scope(template_id=made.id)
            rate_cards.add(connection, account_id, per_minute=Decimal(per_minute), scope=scope)
    return made.id


@pytest.mark.parametrize(
    "second", [{"seconds": None}, {"seconds": "30"}, {"status": "failed", "seconds": None, "code": "x"}]
)
def test_who_waits_for_a_session_decides_on_what_it_became(database: Database, second: dict[str, Any]) -> None:
    """A process that read the ledger before another charged tries again, instead of taking the call for uncharged."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds=None, accepted_at_ms=START_MS))  # there, and unrated
    caught: list[bool] = []

    def compete() -> None:
        try:
            write(database, ended(account_id, kind="call_analyzed", accepted_at_ms=START_MS + 9, **second))
        except Conflict as conflict:
            caught.append(conflict.code == "session_contended")

    with database.begin() as first:
        charge(first, [ended(account_id, seconds="60", accepted_at_ms=START_MS + 5)])
        thread = threading.Thread(target=compete)
        thread.start()
        eventually(lambda: _waits(database), within_seconds=10, what="the second process waits for the session")
    thread.join()
    assert caught == [True]
    compete()
    expected = "0.05" if second["seconds"] else "0.1"
    assert (the_session(database, account_id).cost, owed(database, account_id)) == (
        Decimal(expected),
        Decimal(expected),
    )
    assert violations(database, account_id) == []


def _waits(database: Database) -> bool:
    with database.begin() as connection:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(connection.execute(waiting).scalar_one())


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("together", [True, False])
def test_whichever_event_names_the_template_its_terms_hold(
    database: Database, order: tuple[int, ...], together: bool
) -> None:
    """Also when the event that names it knows less than the one that was charged: card, template and tag are its."""
    account_id = an_account(database)
    template_id = a_template(database, account_id)
    events = [
        ended(account_id, kind="call_analyzed", seconds="60", accepted_at_ms=START_MS + 5),
        ended(account_id, kind="call_ended", seconds="60", accepted_at_ms=START_MS, template_id=template_id),
        ended(account_id, kind="call_ended", seconds="60", accepted_at_ms=START_MS),
    ]
    shuffled = [events[place] for place in order]
    for batch in [shuffled] if together else [[event] for event in shuffled]:
        write(database, *batch)
    session = the_session(database, account_id)
    assert (session.template_id, session.tag, session.cost) == (template_id, "vip", Decimal(6))
    rows = ledger_of(database, account_id)
    assert owed(database, account_id) == Decimal(6)
    standing = [(row.template_id, row.tag) for row in rows if row.kind == "charge"][-1]
    assert standing == (template_id, "vip")
    assert violations(database, account_id) == []


def test_what_is_taken_back_is_taken_from_where_it_counted(database: Database) -> None:
    """A reversal has the template and tag of its charge, so that the two cancel in every grouping."""
    account_id = an_account(database)
    template_id = a_template(database, account_id, per_minute=None)
    write(database, ended(account_id, seconds="60"))
    write(database, ended(account_id, seconds="60", template_id=template_id))
    rows = ledger_of(database, account_id)
    assert [(row.kind, row.template_id, row.tag) for row in rows] == [
        ("charge", None, None),
        ("reversal", None, None),
        ("charge", template_id, "vip"),
    ]


def test_a_template_that_becomes_known_rates_what_had_no_card(database: Database) -> None:
    """Its own card may be the only one."""
    account_id = an_account(database, per_minute=None)
    template_id = a_template(database, account_id)
    write(database, ended(account_id, kind="call_analyzed", seconds="60"))
    assert the_session(database, account_id).unrated_reason == "no_rate_card"
    write(database, ended(account_id, kind="call_ended", seconds="60", template_id=template_id))
    assert the_session(database, account_id).cost == Decimal(6)


@pytest.mark.parametrize(("agent_id", "amount"), [("agent_own", "0"), (None, "0"), ("agent_of_the_operator", "0.1")])
def test_a_key_of_the_accounts_own_pays_for_its_own_agent_alone(
    database: Database, agent_id: str | None, amount: str
) -> None:
    """Whoever names such a session in a call by another agent, on the operator's key, pays for that."""
    account_id = an_account(database)
    with database.begin() as connection:
        begun = sessions.create(
            connection, account_id=account_id, provider="elevenlabs", agent_id="agent_own", own_key=True
        )
    kind = "post_call_transcription"
    told = ended(account_id, provider="elevenlabs", kind=kind, seconds="60", session_id=begun.id)
    told = msgspec.structs.replace(told, call=msgspec.structs.replace(told.call, agent_id=agent_id))
    write(database, told, told)
    assert the_session(database, account_id).cost == Decimal(amount)


def agents_call(facts: Facts, agent_id: str) -> Facts:
    """The same, held by this agent."""
    return msgspec.structs.replace(facts, call=msgspec.structs.replace(facts.call, agent_id=agent_id))


def an_agent(
    database: Database, account_id: str, agent_id: str, *, per_minute: str | None = None, own: bool = False
) -> int:
    """A template with an agent, at a price of its own, and made with the account's own key if `own`; its id."""
    template_id = a_template(database, account_id, per_minute=per_minute)
    with database.begin() as connection:
        given = {"template": template_id, "agent": agent_id, "account": account_id, "own": b"k" * 32 if own else None}
        connection.execute(text("UPDATE templates SET agent_id = :agent WHERE id = :template"), given)
        voice = text(
            "INSERT INTO voice_agents (account_id, template_id, provider, agent_id, created_here, status, made_with) "
            "VALUES (:account, :template, 'elevenlabs', :agent, true, 'synced', :own)"
        )
        connection.execute(voice, given)
    return template_id


TRANSCRIPTION = "post_call_transcription"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_call_costs_what_its_agent_costs_whatever_template_the_customer_names(
    database: Database, order: tuple[int, int]
) -> None:
    """A cheap template's secret, or its session, does not make a dear agent cheap; in any order."""
    account_id = an_account(database)
    cheap = an_agent(database, account_id, "agent_cheap", per_minute="0.01")
    dear = an_agent(database, account_id, "agent_dear", per_minute="0.50")
    own_word = ended(
        account_id, provider="elevenlabs", kind="complete", seconds="600", template_id=cheap, trust=TRUST_KEY
    )
    # Its session's template came with the hint, or with the secret before it.
    word = ended(account_id, provider="elevenlabs", kind=TRANSCRIPTION, seconds="600", template_id=cheap)
    told = (agents_call(own_word, "agent_dear"), agents_call(word, "agent_dear"))
    for place in order:
        write(database, told[place])
    session = the_session(database, account_id)
    assert (session.cost, session.template_id) == (Decimal("5.00"), dear)
    assert violations(database, account_id) == []


@pytest.mark.parametrize("agent_of_own_word", ["agent_own", None])
def test_naming_a_template_on_the_own_key_does_not_make_the_operators_agent_free(
    database: Database, agent_of_own_word: str | None
) -> None:
    """What was waived for the first word is charged when the provider says which agent it was."""
    account_id = an_account(database)
    own = an_agent(database, account_id, "agent_own", own=True)
    an_agent(database, account_id, "agent_operators")
    first = ended(account_id, provider="elevenlabs", kind="complete", seconds="1", template_id=own, trust=TRUST_KEY)
    write(database, agents_call(first, agent_of_own_word) if agent_of_own_word else first)
    assert the_session(database, account_id).cost == 0
    word = ended(account_id, provider="elevenlabs", kind=TRANSCRIPTION, seconds="600", template_id=own)
    write(database, agents_call(word, "agent_operators"))
    session = the_session(database, account_id)
    assert session.waived_reason is None
    assert session.cost
    assert violations(database, account_id) == []


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("order", ["PC", "CP", "CPC", "batch"])
def test_a_template_that_is_named_by_a_secret_prices_no_call_of_a_granted_agent(
    database: Database, order: str, *, own: bool
) -> None:
    """Before, after or with the provider's word: the account's card is what the call costs."""
    account_id = an_account(database)
    agent_id = f"agent_{order}_{own}"
    with database.begin() as connection:
        grants.add(connection, account_id=account_id, provider="elevenlabs", object_id=agent_id)
    template_id = an_agent(database, account_id, f"{agent_id}_other", per_minute="0.01", own=own)
    provider = agents_call(ended(account_id, provider="elevenlabs", kind=TRANSCRIPTION, seconds="600"), agent_id)
    secret = ended(
        account_id, provider="elevenlabs", kind="complete", seconds="600", template_id=template_id, trust=TRUST_KEY
    )
    for event in (
        [(provider, secret)] if order == "batch" else [((provider if one == "P" else secret),) for one in order]
    ):
        write(database, *event)
    session = the_session(database, account_id)
    assert (session.cost, session.waived_reason) == (Decimal("1.00"), None)
    assert violations(database, account_id) == []


def test_a_template_without_an_agent_makes_no_dear_agent_cheap(database: Database) -> None:
    """It has a secret all the same."""
    account_id = an_account(database)
    agentless = a_template(database, account_id, per_minute="0.01")
    dear = an_agent(database, account_id, "agent_dear", per_minute="0.50")
    write(
        database,
        ended(
            account_id, provider="elevenlabs", kind="complete", seconds="600", template_id=agentless, trust=TRUST_KEY
        ),
    )
    word = ended(account_id, provider="elevenlabs", kind=TRANSCRIPTION, seconds="600", template_id=dear)
    write(database, agents_call(word, "agent_dear"))
    assert the_session(database, account_id).cost == Decimal("5.00")


def test_an_operators_waiver_outlives_a_word_that_cannot_be_charged(database: Database) -> None:
    """What was waived stays so when the next word can be."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds="60", trust=TRUST_SOURCE))
    waived = "UPDATE sessions SET waived_reason = 'outage' WHERE account_id = :account"
    with database.begin() as connection:
        connection.execute(text(waived), {"account": account_id})
    write(database, ended(account_id, seconds=None, started_at_ms=None))
    write(database, ended(account_id, seconds="60", kind="call_analyzed"))
    session = the_session(database, account_id)
    assert (session.cost, session.waived_reason) == (Decimal(0), "outage")


def test_a_customers_word_about_the_providers_cost_is_not_kept(database: Database) -> None:
    """Rating it later does not take that for a base either."""
    account_id = an_account(database, per_minute=None)
    with database.begin() as connection:
        rate_cards.add(connection, account_id, per_minute=Decimal(0), markup=Decimal("1.5"))
    write(database, ended(account_id, seconds="600"))
    for trust in (TRUST_KEY, TRUST_SOURCE):
        write(database, ended(account_id, seconds="600", cost_usd="0.000001", trust=trust))
    session = the_session(database, account_id)
    assert (session.provider_cost_usd, session.unrated_reason) == (None, "provider_cost_missing")


def test_a_granted_agent_runs_on_the_operators_key(database: Database) -> None:
    """Whatever the session was begun with; it does not even have to be known which agent that was."""
    account_id = an_account(database)
    with database.begin() as connection:
        grants.add(connection, account_id=account_id, provider="elevenlabs", object_id="agent_granted")
        begun = sessions.create(connection, account_id=account_id, provider="elevenlabs", own_key=True)
    told = ended(account_id, provider="elevenlabs", kind=TRANSCRIPTION, seconds="60", session_id=begun.id)
    write(database, agents_call(told, "agent_granted"))
    assert the_session(database, account_id).cost == Decimal("0.1")


def test_a_providers_word_without_a_duration_takes_back_what_the_account_said(database: Database) -> None:
    """And the next that has one is charged under the next number; books hold all the while."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds="1", trust=TRUST_KEY))
    write(database, ended(account_id, seconds=None, started_at_ms=None, kind="call_ended"))
    assert the_session(database, account_id).unrated_reason == "duration_missing"
    assert owed(database, account_id) == 0
    assert violations(database, account_id) == []
    write(database, ended(account_id, seconds="1", trust=TRUST_KEY, accepted_at_ms=START_MS + 7_200_000))
    assert owed(database, account_id) == 0
    write(database, ended(account_id, seconds="60", kind="call_analyzed"))
    assert (the_session(database, account_id).cost, owed(database, account_id)) == (Decimal("0.1"), Decimal("0.1"))
    assert [row.sequence for row in ledger_of(database, account_id)] == [1, 1, 2]
    assert violations(database, account_id) == []


def test_tests_are_never_charged(database: Database) -> None:
    """Whoever hands them in."""
    account_id = an_account(database)
    write(database, ended(account_id, livemode=False))
    assert ledger_of(database, account_id) == []
    with database.begin() as connection:
        assert sessions.page(connection, account_id=account_id) == []


def test_a_tests_session_does_not_hide_a_call_from_usage(database: Database) -> None:
    """The record of a test under the same conversation came first; the call is charged, and counted."""
    account_id = an_account(database)
    event = ended(account_id)
    with database.begin() as connection:
        record = records.SessionRecord(
            account_id=account_id,
            id=event.session_id,
            provider="retell",
            conversation_id="call_1",
            template_id=None,
            agent_id=None,
            status="completed",
            livemode=False,
            created_at=datetime.now(UTC),
        )
        records.write(connection, events=[], deliveries=[], attempts=[], sessions=[record])
    write(database, event)
    session = the_session(database, account_id)
    assert (session.livemode, session.cost) == (True, Decimal("0.151667"))
    assert violations(database, account_id) == []


def test_a_charged_session_takes_over_its_conversations_id(database: Database) -> None:
    """/complete named only the session; later events of the conversation, and lists of the provider, find it."""
    account_id = an_account(database)
    with database.begin() as connection:
        made = sessions.create(connection, account_id=account_id, provider="elevenlabs")
    unnamed = f"session-{made.id}"
    told = {"provider": "elevenlabs", "session_id": made.id}
    write(database, ended(account_id, unnamed, kind="complete", seconds="60", trust=TRUST_KEY, **told))  # type: ignore[arg-type]
    write(database, ended(account_id, "conv_1", kind="post_call_transcription", seconds="90", **told))  # type: ignore[arg-type]
    derived = derived_session_id(account_id, "elevenlabs", "conv_1")
    late = ended(account_id, "conv_1", provider="elevenlabs", kind="post_call_transcription", seconds="120",
                 session_id=derived, accepted_at_ms=START_MS + 7_200_000)  # fmt: skip
    write(database, late)
    session = the_session(database, account_id)
    assert (session.id, session.conversation_id, session.cost) == (made.id, "conv_1", Decimal("0.2"))
    assert owed(database, account_id) == Decimal("0.2")
    assert violations(database, account_id) == []


def test_less_authoritative_events_fill_gaps_and_change_nothing(database: Database) -> None:
    """An account's own word cannot write over what the provider said a call cost it."""
    account_id = an_account(database)
    write(database, ended(account_id, kind="call_analyzed", cost_usd="0.07"))
    write(database, ended(account_id, kind="call_ended", cost_usd="9", trust=TRUST_KEY))
    assert the_session(database, account_id).provider_cost_usd == Decimal("0.07")
    write(database, ended(account_id, "call_2", kind="call_analyzed"))
    write(database, ended(account_id, "call_2", kind="call_ended", cost_usd="0.05"))
    with database.begin() as connection:
        second = sessions.of_conversation(
            connection, account_id=account_id, provider="retell", conversation_id="call_2"
        )
    assert second.provider_cost_usd == Decimal("0.05")


def test_a_charge_that_is_missing_stops_its_session(database: Database) -> None:
    """A session that names a charge which the ledger does not have is not charged over it."""
    account_id = an_account(database)
    write(database, ended(account_id))
    tamper(database, "DELETE FROM ledger WHERE account_id = :account", account=account_id)
    with pytest.raises(Conflict):
        write(database, ended(account_id, kind="call_analyzed", seconds="30"))
