"""By which template's terms a call is charged: the first that is named for it, unless the agent that held it says else.

Customers name templates and sessions; agents are named by providers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection

from billing.bills import Bill
from relay.calls import DERIVED_SESSION_BASE, TRUST_PROVIDER, Facts
from relay.store import terms
from relay.store.terms import AgentKey, Offered, Terms, of_templates

_NONE: Final = Offered()


def offered(connection: Connection, pairs: Sequence[tuple[Facts, Bill]]) -> dict[tuple[str, int], Offered]:
    """The terms of all templates that these events or their sessions name."""
    named = {bill.session.template_id or facts.template_id for facts, bill in pairs}
    return of_templates(connection, {template_id for template_id in named if template_id is not None})


def learn_templates(pairs: Sequence[tuple[Facts, Bill]], offers: Mapping[tuple[str, int], Offered]) -> Iterable[Bill]:
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


def know_agents(
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
