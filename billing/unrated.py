"""Sessions that could not be charged: how many there are and why, and charging them once what was missing is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final, NamedTuple

from msgspec.structs import replace
from sqlalchemy import Connection, RowMapping, Select, func, select, tuple_

from billing import matching, periods, posting
from billing.bills import Bill
from billing.duration import UnratedReason, longest_seconds
from billing.entries import Entry
from billing.money import parse_number, round_money
from billing.revision import revised
from relay.calls import TRUST_PROVIDER
from relay.errors import BadRequest, Conflict, NotFound
from relay.store import audit, rate_cards
from relay.store.database import Database
from relay.store.tables import sessions

_PAGE: Final = 256
_MOST_REASON: Final = 200
_DECIMALS: Final = 3
# Before it is rounded; how long a call may last, its provider says.
_MOST_SECONDS: Final = 10**9
# Below that of every event (billing.assessment): whatever the provider says later is news.
_STATED_RANK: Final = 0
# What time, a new card or another event may have put right. The others need somebody to say how long the call was.
_CURABLE: Final = (UnratedReason.NO_RATE_CARD, UnratedReason.PROVIDER_COST_MISSING, UnratedReason.CURRENCY_MISMATCH)

_Place = tuple[str, datetime, int]


class Count(NamedTuple):
    """So many sessions of an account are not charged, for this reason; since the first, by the moment of its call."""

    account_id: str
    reason: str
    sessions: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many were looked at, and how many of them are charged now."""

    seen: int
    rated: int


def counts(connection: Connection, *, account_id: str | None = None) -> list[Count]:
    """What is not charged, by account and reason."""
    reason, number, since = sessions.c.unrated_reason, func.count(), func.min(sessions.c.rated_at)
    found = (
        select(sessions.c.account_id, reason, number, since)
        .where(reason.is_not(None), sessions.c.livemode)
        .group_by(sessions.c.account_id, reason)
        .order_by(sessions.c.account_id, reason)
    )
    if account_id is not None:
        found = found.where(sessions.c.account_id == account_id)
    return [Count(*row) for row in connection.execute(found)]


def by_reason(counted: Sequence[Count]) -> dict[str, int]:
    """The numbers of all accounts together; 0 for reasons that no session has."""
    found = dict.fromkeys((reason.value for reason in UnratedReason), 0)
    for one in counted:
        found[one.reason] = found.get(one.reason, 0) + one.sessions
    return found


def rate_what_can_be(
    database: Database,
    *,
    account_id: str | None = None,
    since: datetime | None = None,
    on_page: Callable[[Outcome], None] = lambda _: None,
) -> Outcome:
    """Charge the sessions whose card, or whose provider's cost, is known by now.

    `since` leaves out calls that began before it. Safe to repeat and to interrupt.
    """
    seen, rated, after = 0, 0, None
    while True:
        page, done = posting.uncontended(partial(_rate_page, database, account_id, since, after))
        seen, rated = seen + len(page), rated + done
        on_page(Outcome(seen, rated))
        if len(page) < _PAGE:
            break
        last = page[-1]
        after = (last["account_id"], last["rated_at"], last["id"])
    return Outcome(seen, rated)


def state_duration(
    database: Database, *, account_id: str, session_id: int, seconds: str, reason: str, actor: str
) -> Bill:
    """Charge a session by the duration that somebody says it had, who looked it up; both are in the audit trail.

    What is stated outweighs what the account itself may sign, and yields to any later word of the provider. Until then
    it may be stated again; the same once more changes nothing. Raises BadRequest for the reason, and for seconds beyond
    what a call of its provider may last, NotFound, and Conflict: `session_not_unrated`, or `session_unratable` when it
    has no rate card, or no provider's cost, either.
    """
    stated = _checked(seconds)
    if not reason.strip() or len(reason) > _MOST_REASON or not reason.isprintable():
        raise BadRequest(f"give a reason of 1 to {_MOST_REASON} characters on one line", field="reason")
    return posting.uncontended(partial(_state, database, (account_id, session_id), stated, reason, actor))


def _state(database: Database, key: tuple[str, int], seconds: Decimal, reason: str, actor: str) -> Bill:
    account_id, session_id = key
    with database.begin() as connection:
        closed_through = periods.share(connection, [account_id])
        found = matching.locked(connection, [{"account_id": account_id, "id": session_id}])
        if not found:
            raise NotFound("this account has no session by this id")
        (bill,) = found
        session, posted = bill.session, bill.posted
        is_stated = session.terminal_rank == _STATED_RANK
        if posted is None or (session.unrated_reason is None and not is_stated):
            raise Conflict("this session is not unrated", code="session_not_unrated")
        if seconds > longest_seconds(session.provider):
            most = f"{longest_seconds(session.provider):,}"
            raise BadRequest(f"no call of {session.provider} lasts longer than {most} s", field="seconds")
        cards = rate_cards.of_accounts(connection, [account_id])[account_id]
        assessment = revised(session, posted, cards, why="a duration was stated", seconds=seconds)
        if assessment.reason is not None:
            raise Conflict(f"this session cannot be rated: {assessment.reason}", code="session_unratable")
        if not assessment.entries:
            return bill
        before = {"unratedReason": session.unrated_reason, "durationSeconds": _text(session.duration_seconds)}
        session.terminal_trust, session.terminal_rank = TRUST_PROVIDER, _STATED_RANK
        said = f"{seconds:f} s as stated by {actor}: {reason}"
        bill.rate(replace(assessment, entries=tuple(_with_step(one, said) for one in assessment.entries)))
        posting.post(connection, [bill], closed_through=closed_through)
        audit.record(
            connection,
            account_id=account_id,
            actor=actor,
            action="session.rated",
            object_id=session_id,
            before=before,
            after={"durationSeconds": _text(seconds), "cost": str(session.cost), "reason": reason},
        )
    return bill


def _with_step(entry: Entry, said: str) -> Entry:
    """The first row of a charge says who stated its duration; other rows have nothing to say."""
    return replace(entry, steps=(said, *entry.steps)) if entry.kind == "charge" and entry.part == 0 else entry


def _text(seconds: Decimal | None) -> str | None:
    return None if seconds is None else f"{seconds:f}"


def _rate_page(
    database: Database, account_id: str | None, since: datetime | None, after: _Place | None
) -> tuple[list[RowMapping], int]:
    with database.begin() as connection:
        page = list(connection.execute(_curable(account_id, since, after)).mappings())
        account_ids = sorted({row["account_id"] for row in page})
        closed_through = periods.share(connection, account_ids)
        cards = rate_cards.of_accounts(connection, account_ids)
        rated = []
        for bill in matching.locked(connection, [{"account_id": row["account_id"], "id": row["id"]} for row in page]):
            if bill.posted is None or bill.session.unrated_reason is None:
                continue  # an event rated it since the page was read
            assessment = revised(bill.session, bill.posted, cards[bill.session.account_id], why="rated again")
            if assessment.reason is None:
                bill.rate(assessment)
                rated.append(bill)
        posting.post(connection, rated, closed_through=closed_through)
    return page, len(rated)


def _curable(account_id: str | None, since: datetime | None, after: _Place | None) -> Select[Any]:
    """The keys of the next ones, in the order of their index; whose end was told, so that they have a moment."""
    listed = (
        select(sessions.c.account_id, sessions.c.rated_at, sessions.c.id)
        .where(sessions.c.unrated_reason.in_(_CURABLE), sessions.c.rated_at.is_not(None))
        .order_by(sessions.c.account_id, sessions.c.rated_at, sessions.c.id)
        .limit(_PAGE)
    )
    if account_id is not None:
        listed = listed.where(sessions.c.account_id == account_id)
    if since is not None:
        listed = listed.where(sessions.c.rated_at >= since)
    if after is not None:
        listed = listed.where(tuple_(sessions.c.account_id, sessions.c.rated_at, sessions.c.id) > after)
    return listed


def _checked(seconds: str) -> Decimal:
    told = parse_number(seconds)
    if told is None or not 0 <= told < _MOST_SECONDS:
        raise BadRequest("seconds must be a number of 0 or more", field="seconds")
    if told != round_money(told, decimals=_DECIMALS):
        raise BadRequest(f"seconds may have {_DECIMALS} decimals", field="seconds")
    return told
