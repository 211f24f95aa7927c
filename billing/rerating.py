"""Rates charged sessions again: by another card, by cards that came later, or at nothing.

First a survey, which changes nothing and says what would become of each; then a reversal and a new charge for each that
comes to something else, in transactions of a few hundred sessions. Whoever is interrupted begins again: what is done
comes to the same, and posts nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Final

from sqlalchemy import Connection, RowMapping, select, tuple_

from billing import matching, periods, posting
from billing.assessment import OWN_KEY, Assessment
from billing.bills import Bill, Session
from billing.entries import Entry
from billing.money import ARITHMETIC, ZERO
from billing.revision import revised
from billing.statements.consequences import Minutes
from relay.errors import BadRequest, NotFound
from relay.store import audit, rate_cards
from relay.store.database import Database
from relay.store.rate_cards import Cards
from relay.store.tables import sessions

PAGE: Final = 256
_MOST_REASON: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Charged sessions of one account that were rated at a moment in [begin, end)."""

    account_id: str
    begin: datetime
    end: datetime
    template_id: int | None = None
    tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """By what they are rated again: the card `card_id`, or None for the one that is in force for each by now.

    With `waive`, a reason, they cost nothing; with `charge_waived` those cost again that were waived. Neither
    touches calls that cost nothing because they ran on their customer's own key.
    """

    card_id: str | None = None
    waive: str | None = None
    charge_waived: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What becomes of one session, and the rows that do it.

    `refused` says why it cannot be rated so, and stays as it is.
    """

    session_id: int
    conversation_id: str
    rated_at: datetime
    old_amount: Decimal
    new_amount: Decimal
    old_card_id: str | None
    new_card_id: str | None
    currency: str
    entries: tuple[Entry, ...] = ()
    refused: str | None = None

    @property
    def difference(self) -> Decimal:
        """How much more it costs."""
        return ARITHMETIC.subtract(self.new_amount, self.old_amount)


@dataclass(slots=True)
class Totals:
    """What was looked at, what changes, what cannot, and how much it was and will be, call by call.

    What `minutes` make of the prices of their months comes on top: billing.statements.consequences knows how much.
    """

    sessions: int = 0
    changed: int = 0
    refused: int = 0
    old_amount: Decimal = ZERO
    new_amount: Decimal = ZERO
    minutes: Minutes = field(default_factory=Minutes)

    @property
    def difference(self) -> Decimal:
        """How much more what changes will cost."""
        return ARITHMETIC.subtract(self.new_amount, self.old_amount)

    def add(self, difference: Difference | None) -> None:
        """Count a session; None: one that stays as it is."""
        self.sessions += 1
        if difference is None:
            return
        if difference.refused is not None:
            self.refused += 1
            return
        self.changed += 1
        self.minutes.add(difference.entries)
        self.old_amount = ARITHMETIC.add(self.old_amount, difference.old_amount)
        self.new_amount = ARITHMETIC.add(self.new_amount, difference.new_amount)


def replan(bill: Bill, change: Change, cards: Cards) -> tuple[Difference | None, Assessment | None]:
    """What a change makes of a charged bill, and the assessment that does it; None where nothing changes. Pure.

    The bill's session takes over the change's terms: its card is pinned, so that a later event does not undo it.
    """
    session = bill.session
    if bill.posted is None or not bill.posted.charge or session.cost is None or session.currency is None:
        return None, None
    before = replace(session)
    _take_over(session, change)
    assessment = revised(session, bill.posted, cards, why="rated again")
    charge = assessment.charge
    if charge is None:
        _restore(session, before)
    elif not assessment.entries and session == before:
        return None, None
    difference = Difference(
        session_id=session.id,
        conversation_id=session.conversation_id or "",
        rated_at=assessment.rated_at or before.rated_at,  # type: ignore[arg-type]
        old_amount=session.cost,
        new_amount=session.cost if charge is None else charge.amount,
        old_card_id=before.rate_card_id,
        new_card_id=assessment.rate_card_id or before.rate_card_id,
        currency=session.currency,
        entries=() if charge is None else assessment.entries,
        refused=assessment.reason,
    )
    return difference, None if charge is None else assessment


def survey(database: Database, selection: Selection, change: Change) -> Iterator[Difference | None]:
    """What would become of each session; None for one that stays as it is. Writes nothing and locks nothing.

    Raises NotFound for a card that is not this account's.
    """
    after = None
    while True:
        with database.begin() as connection:
            cards = _cards(connection, selection, change)
            page = _page(connection, selection, after)
            found = [replan(bill, change, cards)[0] for bill in matching.seen(connection, _wanted(selection, page))]
        yield from found
        if len(page) < PAGE:
            return
        after = _place(page)


def rerate(
    database: Database,
    selection: Selection,
    change: Change,
    *,
    actor: str,
    expected: Totals,
    on_page: Callable[[Totals], None] = lambda _: None,
) -> Totals:
    """Post what the survey said, `expected`, and tell `on_page` after each page how far it is.

    The audit trail has it before the first row is posted: an interrupted run is in it as well. Raises NotFound for a
    card that is not this account's.
    """
    check(change)
    with database.begin() as connection:
        _cards(connection, selection, change)
        _audit(connection, selection, change, actor=actor, expected=expected)
    totals, after = Totals(), None
    while True:
        page, done = posting.uncontended(partial(_post_page, database, selection, change, after))
        for one in done:
            totals.add(one)
        on_page(totals)
        if len(page) < PAGE:
            break
        after = _place(page)
    return totals


def check(change: Change) -> None:
    """Raises BadRequest, with the field `waive`, for a reason that says nothing, or that no column takes."""
    reason = change.waive
    if reason is not None and (not reason.strip() or len(reason) > _MOST_REASON or not reason.isprintable()):
        raise BadRequest(f"give a reason of 1 to {_MOST_REASON} characters on one line", field="waive")
    if reason == OWN_KEY:
        raise BadRequest(f"{OWN_KEY} is found out by itself, and waives nothing; give another reason", field="waive")


def _post_page(
    database: Database, selection: Selection, change: Change, after: tuple[datetime, int] | None
) -> tuple[list[RowMapping], list[Difference | None]]:
    with database.begin() as connection:
        closed_through = periods.share(connection, [selection.account_id])
        cards = _cards(connection, selection, change)
        page = _page(connection, selection, after)
        changed, found = [], []
        for bill in matching.locked(connection, _wanted(selection, page)):
            if not _is_meant(bill.session, selection):
                continue  # an event changed it since the page was read
            difference, assessment = replan(bill, change, cards)
            found.append(difference)
            if assessment is not None:
                bill.rate(assessment)
                changed.append(bill)
        posting.post(connection, changed, closed_through=closed_through)
    return page, found


def _take_over(session: Session, change: Change) -> None:
    session.pinned_card_id = change.card_id or session.pinned_card_id
    if session.own_key:
        return  # its customer pays the provider, whatever we waive
    if change.waive is not None or change.charge_waived:
        session.waived_reason = change.waive


def _restore(session: Session, before: Session) -> None:
    session.pinned_card_id, session.waived_reason = before.pinned_card_id, before.waived_reason


def _cards(connection: Connection, selection: Selection, change: Change) -> Cards:
    cards = rate_cards.of_accounts(connection, [selection.account_id])[selection.account_id]
    if change.card_id is not None and change.card_id not in cards.by_id:
        raise NotFound("this account has no rate card by this id")
    return cards


def _page(connection: Connection, selection: Selection, after: tuple[datetime, int] | None) -> list[RowMapping]:
    """The keys of the next sessions, in the order in which statements list them."""
    listed = (
        select(sessions.c.id, sessions.c.rated_at)
        .where(
            sessions.c.account_id == selection.account_id,
            sessions.c.terminal_ms.is_not(None),
            sessions.c.rated_at >= selection.begin,
            sessions.c.rated_at < selection.end,
            sessions.c.charge_sequence > 0,
        )
        .order_by(sessions.c.rated_at, sessions.c.id)
        .limit(PAGE)
    )
    if selection.template_id is not None:
        listed = listed.where(sessions.c.template_id == selection.template_id)
    if selection.tag is not None:
        listed = listed.where(sessions.c.tag == selection.tag)
    if after is not None:
        listed = listed.where(tuple_(sessions.c.rated_at, sessions.c.id) > after)
    return list(connection.execute(listed).mappings())


def _wanted(selection: Selection, page: Iterable[RowMapping]) -> list[dict[str, object]]:
    return [{"account_id": selection.account_id, "id": row["id"]} for row in page]


def _place(page: list[RowMapping]) -> tuple[datetime, int]:
    return page[-1]["rated_at"], page[-1]["id"]


def _is_meant(session: Session, selection: Selection) -> bool:
    rated_at = session.rated_at
    return (
        rated_at is not None
        and selection.begin <= rated_at < selection.end
        and selection.template_id in {None, session.template_id}
        and selection.tag in {None, session.tag}
    )


def _audit(connection: Connection, selection: Selection, change: Change, *, actor: str, expected: Totals) -> None:
    audit.record(
        connection,
        account_id=selection.account_id,
        actor=actor,
        action="charges.rerated",
        object_id=f"{selection.begin.isoformat()}/{selection.end.isoformat()}",
        before={"sessions": expected.sessions, "amount": str(expected.old_amount)},
        after={
            "changed": expected.changed,
            "amount": str(expected.new_amount),
            "rateCardId": change.card_id,
            "waive": change.waive,
            "templateId": selection.template_id,
            "tag": selection.tag,
        },
    )
