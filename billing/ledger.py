"""Charges calls: what terminal events make of their sessions' bills, decided and written in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from billing import matching, periods, posting
from billing.assessment import Assessment, assess
from billing.bills import Bill
from relay.calls import Facts
from relay.store import rate_cards, terms


@dataclass(frozen=True, slots=True)
class Rated:
    """What became of one terminal event: an assessment, for the caller's metrics and logs."""

    facts: Facts
    assessment: Assessment


def charge(connection: Connection, events: Sequence[Facts]) -> list[Rated]:
    """Write what these terminal events make of their sessions' bills. Safe to repeat.

    Several events of one call may come at once; each is decided on what the one before it left. Raises Conflict when
    another process is writing the same new session at this moment: try the transaction again.
    """
    account_ids = sorted({facts.account_id for facts in events})
    closed_through = periods.share(connection, account_ids)
    cards = rate_cards.of_accounts(connection, account_ids)
    bills = matching.find(connection, events)
    pairs = [(facts, bills.of(facts)) for facts in events]
    _learn_templates(connection, pairs)
    rated: list[Rated] = []
    for facts, bill in pairs:
        assessment = assess(facts, cards[facts.account_id], bill.posted, terms=bill.session.terms)
        rated.append(Rated(facts, assessment))
        bill.take(facts, assessment)
    touched = {id(bill): bill for _, bill in pairs}
    posting.post(connection, touched.values(), closed_through=closed_through)
    return rated


def _learn_templates(connection: Connection, pairs: Sequence[tuple[Facts, Bill]]) -> None:
    """A session's template is the first that was named; it takes over that template's terms then, once."""
    learned = []
    for facts, bill in pairs:
        if bill.session.template_id is None and facts.template_id is not None:
            bill.session.template_id = facts.template_id
            learned.append(bill.session)
    known = terms.of_templates(connection, {session.template_id for session in learned if session.template_id})
    for session in learned:
        session.take_terms(known.get((session.account_id, session.template_id or 0), terms.Terms()))
