"""Charges calls: what terminal events make of their sessions' bills, decided and written in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sqlalchemy import Connection

from billing import matching, periods, posting
from billing.assessment import Assessment, assess
from billing.bills import Bill, Session
from billing.revision import revised
from relay.calls import DERIVED_SESSION_BASE, TRUST_PROVIDER, Facts
from relay.store import rate_cards, terms
from relay.store.terms import AgentKey, Offered, Terms, of_templates

_NOTHING: Final[Mapping[str, Terms]] = MappingProxyType({})
_NONE: Final = Offered()
_TEMPLATE_LEARNED: Final = "its template became known, and has other terms"


@dataclass(frozen=True, slots=True)
class Rated:
    """What became of one terminal event: an assessment, for the caller's metrics and logs, and its session by now."""

    facts: Facts
    assessment: Assessment
    session: Session


def charge(
    connection: Connection, events: Sequence[Facts], *, remembered: Mapping[str, Terms] = _NOTHING
) -> list[Rated]:
    """Write what these terminal events make of their sessions' bills. Safe to repeat.

    Several events of one call may come at once; each is decided on what the one before it left. `remembered` are the
    terms that sessions had when these events, by their ids, were charged before; Postgres may have lost them since, and
    a session whose end it was not told has them again. Raises Conflict when another process is writing the same new
    session at this moment: try the transaction again.
    """
    # Tests never come this far; whatever calls this, they are never charged.
    events = [facts for facts in events if facts.call.livemode]
    account_ids = sorted({facts.account_id for facts in events})
    closed_through = periods.share(connection, account_ids)
    cards = rate_cards.of_accounts(connection, account_ids)
    bills = matching.find(connection, events)
    pairs = [(facts, bills.of(facts)) for facts in events]
    for facts, bill in pairs:
        if bill.posted is None and facts.event_id in remembered:
            bill.session.have_terms(remembered[facts.event_id])
    offers = _offers(connection, pairs)
    late = _learn_templates(pairs, offers)
    _know_agents(connection, pairs, offers, remembered)
    rated: list[Rated] = []
    for facts, bill in pairs:
        session = bill.session
        assessment = assess(
            facts,
            cards[facts.account_id],
            bill.posted,
            terms=session.terms,
            limit=offers.get((session.account_id, session.template_id or 0), _NONE).limit,
            waived=session.operators_waiver,
        )
        rated.append(Rated(facts, assessment, session))
        bill.take(facts, assessment)
    for bill in late:
        if bill.posted is not None:
            revision = revised(bill.session, bill.posted, cards[bill.session.account_id], why=_TEMPLATE_LEARNED)
            if revision.reason is None:
                bill.rate(revision)
    touched = {id(bill): bill for _, bill in pairs}
    posting.post(connection, touched.values(), closed_through=closed_through)
    return rated


def _offers(connection: Connection, pairs: Sequence[tuple[Facts, Bill]]) -> dict[tuple[str, int], Offered]:
    """The terms of all templates that these events or their sessions name."""
    named = {bill.session.template_id or facts.template_id for facts, bill in pairs}
    return of_templates(connection, {template_id for template_id in named if template_id is not None})


def _learn_templates(pairs: Sequence[tuple[Facts, Bill]], offers: Mapping[tuple[str, int], Offered]) -> Iterable[Bill]:
    """A session's template is the first that was named; it takes over that template's terms then, once.

    Returns the bills that learned theirs only now, when they were charged already: whichever event names the template,
    and in whatever order they come, its terms hold. Of a call that a provider has told of only providers name it, and
    one that has another agent than the call was held by is not its.
    """
    late = []
    for facts, bill in pairs:
        session = bill.session
        if session.template_id is not None or facts.template_id is None:
            continue
        offer = offers.get((session.account_id, facts.template_id), _NONE)
        if bill.posted is not None and bill.posted.authority.is_providers:
            held_by = facts.call.agent_id or session.agent_id
            is_of_another = None not in (offer.agent_id, held_by) and offer.agent_id != held_by
            if facts.trust < TRUST_PROVIDER or is_of_another:
                continue
        session.template_id = facts.template_id
        session.take_terms(offer.terms)
        if bill.posted is not None:
            late.append(bill)
    return late


def _know_agents(
    connection: Connection,
    pairs: Sequence[tuple[Facts, Bill]],
    offers: dict[tuple[str, int], Offered],
    remembered: Mapping[str, Terms],
) -> None:
    """The agent that held a call decides what its session's template and key can not: customers name sessions.

    Where a provider tells of a call by another agent than the template's, the terms are those of the agent's own
    template; of an agent in the operator's workspace that has none, no template's. Such an agent did not run on a key
    of the account's own either. What a call had when it was charged before stays.
    """
    told = [(facts, bill) for facts, bill in pairs if facts.event_id not in remembered]
    asked = {_agent_of(facts) for facts, bill in told if bill.session.own_key or _is_another(facts, bill, offers)}
    if not asked:
        return
    owners = terms.owners(connection, asked)
    of_operator = terms.on_the_operators_key(connection, asked)
    unknown = {template_id for key, template_id in owners.items() if (key[0], template_id) not in offers}
    offers |= of_templates(connection, unknown)
    for facts, bill in told:
        agent = _agent_of(facts)
        if _is_another(facts, bill, offers):
            owner = owners.get(agent)
            if owner is not None and owner != bill.session.template_id:
                bill.session.have_terms(offers[facts.account_id, owner].terms)
            elif owner is None and agent in of_operator and _has_an_agent(facts, bill, offers):
                bill.session.have_terms(Terms())
        bill.session.meet(facts.call.agent_id, is_operators=agent in of_operator)


def _is_another(facts: Facts, bill: Bill, offers: Mapping[tuple[str, int], Offered]) -> bool:
    """Whether a provider may name another agent than the session's template has, and had when the session was begun."""
    session, agent_id = bill.session, facts.call.agent_id
    if facts.trust < TRUST_PROVIDER or agent_id is None or session.template_id is None:
        return False
    if bill.posted is not None and bill.posted.authority.is_providers:
        return False
    begun_with = session.agent_id if session.id < DERIVED_SESSION_BASE else None
    return agent_id not in (offers.get((session.account_id, session.template_id), _NONE).agent_id, begun_with)


def _has_an_agent(facts: Facts, bill: Bill, offers: Mapping[tuple[str, int], Offered]) -> bool:
    """Whether the session's template has an agent of its own."""
    return offers.get((facts.account_id, bill.session.template_id or 0), _NONE).agent_id is not None


def _agent_of(facts: Facts) -> AgentKey:
    return facts.account_id, facts.call.provider, facts.call.agent_id or ""
