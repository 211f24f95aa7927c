"""Charges calls: what terminal events make of their sessions' bills, decided and written in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sqlalchemy import Connection

from billing import call_terms, matching, periods, posting
from billing.assessment import Assessment, assess
from billing.bills import Session
from billing.revision import revised
from relay.calls import Facts
from relay.store import rate_cards
from relay.store.terms import Offered, Terms

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
    offers = call_terms.offered(connection, pairs)
    late = call_terms.learn_templates(pairs, offers)
    call_terms.know_agents(connection, pairs, offers, remembered)
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
