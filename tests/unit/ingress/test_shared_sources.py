"""Agora's notifications at the ingress: whose they are, how old they may be, and which signature counts."""

from __future__ import annotations

import re
import time
from importlib.resources import files
from typing import Any

import pytest
from msgspec.structs import replace

from relay.calls import TRUST_PROVIDER, TRUST_SOURCE, Facts, derived_session_id
from relay.content import Content
from relay.directory import AccountView
from relay.errors import BadRequest, EventIgnored, NotFound, SwitchhookError, Unauthorized
from relay.ingress.intake import REPEATS_KNOWN_MS, Intake
from relay.outbox import Unit
from relay.outbox.outcomes import encode_facts
from relay.providers import agora, retell
from relay.store.snapshot import SourceConfig
from tests.payloads import agora_headers, agora_notification, retell_event
from tests.unit.ingress.test_intake import RING, SETTINGS, Commits, InMemory, a_template, an_account, an_endpoint

OPERATOR, CUSTOMER = "acc_" + "o" * 26, "acc_" + "c" * 26
LEFT = {"agent_id": "agent_1", "start_ts": 1_000, "stop_ts": 1_060, "channel": "c", "status": "STOPPED"}


class Accounts(InMemory):
    """Accounts in memory, which can be asked for by their ids; the customer's agent joined as session 60."""

    def owner_of_agent(self, agent_id: str) -> tuple[str, int] | None:
        return (CUSTOMER, 60) if agent_id == "agent_1" else None

    def account(self, account_id: str) -> AccountView:
        for view in self._views:
            if view.account_id == account_id:
                return view
        raise NotFound


def a_source(provider: str = "agora", *, shared: bool) -> SourceConfig:
    return SourceConfig(id="src_1", provider=provider, secrets=("old", "secret"), shared=shared)


def directory(source: SourceConfig, *, sessions: dict[tuple[str, int], int] | None = None) -> Accounts:
    """An operator with a source, and a customer with a template and endpoints."""
    endpoints = [an_endpoint("ep_source", source_id="src_1"), an_endpoint("ep_operator")]
    operator = an_account(OPERATOR, sources=[source], endpoints=endpoints)
    bound = replace(a_template(3), endpoint_id="ep_template")
    customer = an_account(
        CUSTOMER,
        templates=[bound, a_template(4)],
        endpoints=[an_endpoint("ep_template", template_id=3), an_endpoint("ep_customer")],
    )
    return Accounts(operator, customer, sessions=sessions)


def take(
    where: Accounts, body: bytes, *, headers: dict[str, str] | None = None, provider: str = "agora"
) -> tuple[Facts, tuple[Unit, ...]]:
    """Take a webhook of the source; its facts and units."""
    commits = Commits()
    given = agora_headers(body, "secret") if headers is None else headers
    intake = Intake(SETTINGS, RING, where, commits)
    intake.expects_signed(provider, "src_1", header=given.get)
    intake.signed(provider, "src_1", Content(body), header=given.get, content_type="application/json")
    return commits.facts, commits.admissions[-1].units


def left(**labels: Any) -> bytes:
    """An agent has left, with these labels."""
    return agora_notification(102, LEFT | {"labels": labels})


LEFT_BARE = agora_notification(102, LEFT)


def test_an_event_of_a_shared_source_belongs_to_the_account_that_its_label_names() -> None:
    """Its session, its template's endpoint, its bill; nothing of the source is its business."""
    where = directory(a_source(shared=True), sessions={(CUSTOMER, 60): 3})
    facts, units = take(where, left(switchhook_account=CUSTOMER, switchhook_session="60"))
    assert (facts.account_id, facts.session_id, facts.template_id, facts.source_id) == (CUSTOMER, 60, 3, None)
    assert units == (Unit("relay", "ep_template"), Unit("relay", "ep_customer"), Unit("billing", CUSTOMER))


@pytest.mark.parametrize("labels", [{"switchhook_account": CUSTOMER}, {}])
@pytest.mark.parametrize(("shared", "trust"), [(True, TRUST_PROVIDER), (False, TRUST_SOURCE)])
def test_a_shared_sources_word_counts_more_than_an_accounts_own(
    labels: dict[str, str], shared: bool, trust: int
) -> None:
    """Who pays for a call cannot sign for a source that the operator has."""
    assert take(directory(a_source(shared=shared)), left(**labels))[0].trust == trust


def test_a_session_without_a_template_is_found_too() -> None:
    """Who joins an agent by Agora's own route has none."""
    where = directory(a_source(shared=True), sessions={(CUSTOMER, 60): 0})
    facts, _ = take(where, left(switchhook_account=CUSTOMER, switchhook_session="60"))
    assert (facts.session_id, facts.template_id) == (60, None)


def test_a_template_is_known_by_its_label_when_the_session_is_not() -> None:
    """Redis may have been emptied."""
    where = directory(a_source(shared=True))
    facts, _ = take(where, left(switchhook_account=CUSTOMER, switchhook_session="60", switchhook_template="4"))
    assert (facts.session_id, facts.template_id) == (derived_session_id(CUSTOMER, "agora", "agent_1"), 4)
    assert take(where, left(switchhook_account=CUSTOMER, switchhook_template="9"))[0].template_id is None


@pytest.mark.parametrize("label", ["acc_" + "x" * 26, "acc_nobody", "", "'; --"])
def test_what_no_account_has_stays_with_the_source(label: str) -> None:
    """The operator sees it, and nothing is refused for a label."""
    facts, units = take(directory(a_source(shared=True)), left(switchhook_account=label))
    assert (facts.account_id, facts.source_id) == (OPERATOR, "src_1")
    assert units[-1] == Unit("billing", OPERATOR)
    assert take(directory(a_source(shared=True)), left())[0].account_id == OPERATOR


def test_a_label_means_nothing_at_a_source_that_is_not_shared() -> None:
    """A22: its account may sign whatever it likes: another account's session and bill are out of reach."""
    where = directory(a_source(shared=False), sessions={(CUSTOMER, 60): 3})
    labels = {"switchhook_account": CUSTOMER, "switchhook_session": "60", "switchhook_template": "3"}
    facts, units = take(where, left(**labels))
    assert (facts.account_id, facts.template_id, facts.source_id) == (OPERATOR, None, "src_1")
    assert facts.session_id == derived_session_id(OPERATOR, "agora", "agent_1")
    assert units[-1] == Unit("billing", OPERATOR)


@pytest.mark.parametrize(
    ("agent_id", "shared", "owner"),
    [("agent_1", True, (CUSTOMER, 60, 3)), ("agent_1", False, None), ("agent_2", True, None)],
)
def test_an_expiry_is_its_agents_although_agora_labels_none(
    agent_id: str, shared: bool, owner: tuple[str, int, int] | None
) -> None:
    """104 comes without labels: whose agent it is, and of which session, is known from when it joined."""
    where = directory(a_source(shared=shared), sessions={(CUSTOMER, 60): 3})
    facts, units = take(where, agora_notification(104, {"agent_id": agent_id, "channel": "c"}))
    if owner is None:
        assert (facts.account_id, facts.source_id, facts.template_id) == (OPERATOR, "src_1", None)
        return
    assert (facts.account_id, facts.session_id, facts.template_id) == owner
    assert (facts.source_id, units) == (None, (Unit("relay", "ep_template"), Unit("relay", "ep_customer")))


def test_an_event_that_could_have_a_label_is_looked_up_nowhere() -> None:
    """An operator's own agents must not need Postgres."""
    assert take(directory(a_source(shared=True)), LEFT_BARE)[0].account_id == OPERATOR


def test_retells_metadata_names_the_account_of_a_shared_source() -> None:
    """As we write it when a web call is made."""
    where = directory(a_source("retell", shared=True))
    body = retell_event("call_ended", "call_1", metadata={"switchhook_account": CUSTOMER})
    headers = dict(retell.sign(body, secret="secret", now_ms=int(time.time() * 1000)))
    assert take(where, body, headers=headers, provider="retell")[0].account_id == CUSTOMER
    private = directory(a_source("retell", shared=False))
    assert take(private, body, headers=headers, provider="retell")[0].account_id == OPERATOR


def test_what_served_at_the_door_is_not_kept() -> None:
    """Neither the label nor the moment of sending reaches the outbox."""
    event = agora.read(left(switchhook_account=CUSTOMER, switchhook_template="3"))
    facts = Facts(call=event, session_id=1, accepted_at_ms=2)
    assert event.account_hint == CUSTOMER
    bare = replace(event, account_hint=None, template_hint=None, sent_at_ms=None)
    assert encode_facts(facts) == encode_facts(replace(facts, call=bare))
    assert CUSTOMER.encode() not in encode_facts(facts)


@pytest.mark.parametrize(
    ("age_minutes", "is_taken"), [(0, True), (23 * 60, True), (24 * 60, False), (30 * 24 * 60, False), (-60, True)]
)
def test_what_was_sent_longer_ago_than_repeats_are_known_is_refused(age_minutes: int, is_taken: bool) -> None:
    """Its signature would be good for ever."""
    body = agora_notification(102, LEFT, notify_ms=int(time.time() * 1000) - age_minutes * 60_000)
    if is_taken:
        assert take(directory(a_source(shared=False)), body)[0].call.kind == "agent_left"
        return
    with pytest.raises(BadRequest) as refused:
        take(directory(a_source(shared=False)), body)
    assert (refused.value.status, refused.value.code) == (400, "event_too_old")


def test_the_bound_is_below_what_the_outbox_remembers() -> None:
    """By what clocks may differ."""
    script = (files("relay.outbox") / "prelude.lua").read_text()
    (remembered,) = re.findall(r"SPENT_TTL = (\d+)", script)
    assert 0 < int(remembered) - REPEATS_KNOWN_MS <= 600_000


V1, V2 = "Agora-Signature", "Agora-Signature-V2"
BODY = left()
GOOD = agora_headers(BODY, "secret")


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        (GOOD, True),
        (agora_headers(BODY, "old"), True),
        ({V1: GOOD[V1]}, True),
        ({V2: GOOD[V2]}, True),
        ({V1: "0" * 40, V2: GOOD[V2]}, True),
        ({V1: GOOD[V1], V2: "0" * 64}, False),  # the better one is there, and wrong
        ({V1: GOOD[V1], V2: ""}, True),
        (agora_headers(BODY, "another"), False),
        ({}, False),
        ({"X-Retell-Signature": GOOD[V2]}, False),
    ],
)
def test_the_better_signature_counts(headers: dict[str, str], is_taken: bool) -> None:
    """SHA-256 where it is there, else SHA-1; without either the body is not even read."""
    if is_taken:
        assert take(directory(a_source(shared=False)), BODY, headers=headers)[0].call.provider == "agora"
        return
    with pytest.raises(Unauthorized):
        take(directory(a_source(shared=False)), BODY, headers=headers)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (agora_notification(102, LEFT, product_id=1), EventIgnored),
        (agora_notification(102, LEFT, notify_ms=1), BadRequest),
        (agora_notification(102, {}), BadRequest),
    ],
)
def test_nothing_is_told_to_who_proves_nothing(body: bytes, error: type[SwitchhookError]) -> None:
    """What is wrong with a body is told only to who has signed it."""
    with pytest.raises(error):
        take(directory(a_source(shared=False)), body)
    with pytest.raises(Unauthorized):
        take(directory(a_source(shared=False)), body, headers=agora_headers(body, "another"))


def test_a_test_of_the_console_is_not_charged() -> None:
    """It is taken and relayed, wherever it comes in."""
    body = agora_notification(102, {"channelName": "test_webhook", "uid": 12121212})
    facts, units = take(directory(a_source(shared=True)), body)
    assert not facts.call.livemode
    assert units == (Unit("relay", "ep_source"), Unit("relay", "ep_operator"))
