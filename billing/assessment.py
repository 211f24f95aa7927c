"""What a terminal event makes of a session's bill: a pure decision from what is there and what is told.

The same events give the same bill in any order: of two that differ, the more authoritative wins, whichever came
first. A corrected duration posts a reversal of what was charged and a new charge; nothing is ever changed in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal

from billing.cost import Charge, cost
from billing.duration import Unrated, UnratedReason, billable_duration
from billing.rates import RateCard
from relay.calls import TRUST_KEY, Ending, Facts
from relay.store.rate_cards import RateCardRow, card_at

EntryKind = Literal["charge", "reversal"]

# Which of one call's terminal events knows best, among those whose proofs are worth the same. Retell's cost and
# duration may be final only after its analysis; a customer's own `complete` knows less than the provider's signed word.
_RANKS: Final = {
    ("retell", "call_analyzed"): 3,
    ("retell", "call_ended"): 2,
    ("agora", "agent_left"): 3,
    ("elevenlabs", "post_call_transcription"): 3,
    ("elevenlabs", "call_initiation_failure"): 2,
    ("elevenlabs", "complete"): 1,
    ("canonical", "recording"): 3,
}
_RANK_UNKNOWN: Final = 2
_RANK_COMPLETE: Final = _RANKS["elevenlabs", "complete"]
# We measure it ourselves, and a call id may be handed in again with another file when repeats are forgotten.
_RATED_ONCE: Final = "canonical"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Authority:
    """How much a terminal event's word counts.

    Rated before unrated; then the worth of its proof (relay.calls.TRUST_...), so that no account outdoes by its own
    signature what a provider told us; then its rank, then the later acceptance.
    """

    rated: bool
    trust: int
    rank: int
    accepted_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row for the ledger. `steps` say how the amount came about."""

    kind: EntryKind
    sequence: int
    rate_card_id: str
    started_at: datetime
    duration_seconds: Decimal
    billed_seconds: int
    unit_price: Decimal
    exact: Decimal
    amount: Decimal
    currency: str
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """What is known of a session's bill: by which event's word, and its newest charge, which is not reversed."""

    authority: Authority
    charge: Entry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What is to be written: ledger rows, and the session as it now stands.

    `charge` None with a `reason` is a session that cannot be rated; `is_news` False means that what is there stays.
    """

    is_news: bool
    authority: Authority
    entries: tuple[Entry, ...] = ()
    charge: Charge | None = None
    duration_seconds: Decimal | None = None
    rate_card_id: str | None = None
    reason: UnratedReason | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


def assess(
    facts: Facts, cards: Sequence[RateCardRow], posted: Posted | None, *, own_card: RateCardRow | None = None
) -> Assessment:
    """Decide what a terminal event does to the bill of its session.

    `cards` are the account's, in the order they begin; `own_card` is the template's, which comes before them whenever
    it begins. `posted` is None when nothing was said of this session yet. `facts.call.ending` must be there. A
    recording that was charged is never rated again.
    """
    ending = facts.call.ending
    if ending is None:
        raise ValueError("only an event that ends a call can be assessed")
    if posted is not None and posted.charge is not None and facts.call.provider == _RATED_ONCE:
        return Assessment(is_news=False, authority=posted.authority)
    started_at, ended_at = _moment(ending.started_at_ms), _moment(ending.ended_at_ms)
    rated_at = started_at or _moment(facts.call.occurred_at_ms) or at(facts.accepted_at_ms)
    duration = billable_duration(ending, provider=facts.call.provider)
    row = own_card or card_at(cards, rated_at)
    is_free = _is_free(ending)
    reason = duration.reason if isinstance(duration, Unrated) else UnratedReason.NO_RATE_CARD if row is None else None
    reason = None if is_free else reason
    authority = Authority(reason is None and not is_free, facts.trust, _rank(facts), facts.accepted_at_ms)
    if posted is not None and posted.authority >= authority:
        return Assessment(is_news=False, authority=posted.authority)
    if is_free or isinstance(duration, Unrated) or row is None:
        return Assessment(is_news=True, authority=authority, reason=reason, started_at=started_at, ended_at=ended_at)
    charge = cost(duration.seconds, card_of(row))
    charged = None if posted is None else posted.charge
    entry = Entry(
        kind="charge",
        sequence=1 if charged is None else charged.sequence + 1,
        rate_card_id=row.id,
        started_at=rated_at,
        duration_seconds=duration.seconds,
        billed_seconds=charge.billed_seconds,
        unit_price=row.per_minute,
        exact=charge.exact,
        amount=charge.amount,
        currency=charge.currency,
        steps=charge.steps,
    )
    return Assessment(
        is_news=True,
        authority=authority,
        entries=_entries(entry, charged),
        charge=charge,
        duration_seconds=duration.seconds,
        rate_card_id=row.id,
        started_at=started_at,
        ended_at=ended_at,
    )


def _rank(facts: Facts) -> int:
    call = facts.call
    if call.provider == "elevenlabs" and facts.trust == TRUST_KEY:
        # Whoever has a template's secret may write ElevenLabs' form; it stays a `complete`.
        return _RANK_COMPLETE
    return _RANKS.get((call.provider, call.kind), _RANK_UNKNOWN)


def _is_free(ending: Ending) -> bool:
    """Whether there is nothing to charge: a failure that we know the reason of, and of which nothing was measured.

    Unlike a provider's word that a call lasted 0 s, it is worth no row in the ledger, and needs no rate card.
    """
    return ending.status == "failed" and ending.code is not None and ending.duration_seconds is None


def _entries(entry: Entry, charged: Entry | None) -> tuple[Entry, ...]:
    """The rows that make the ledger say `entry`: none if it does, else what was charged is taken back first."""
    if charged is None:
        return (entry,)
    if _inputs(charged) == _inputs(entry):
        return ()
    return (_reversal(charged), entry)


def _inputs(entry: Entry) -> tuple[object, ...]:
    """What the price follows from. A start that becomes known later matters only if it chooses another card."""
    return entry.duration_seconds, entry.rate_card_id


def _reversal(charged: Entry) -> Entry:
    return replace(
        charged,
        kind="reversal",
        duration_seconds=-charged.duration_seconds,
        billed_seconds=-charged.billed_seconds,
        exact=-charged.exact,
        amount=-charged.amount,
        steps=(f"reverses charge {charged.sequence}: a more authoritative event gave other facts",),
    )


@lru_cache(maxsize=4096)
def card_of(row: RateCardRow) -> RateCard:
    """The rate card of a row; rows are immutable, so each is checked once."""
    return RateCard(
        row.per_minute,
        row.currency,
        initial_seconds=row.initial_seconds,
        increment_seconds=row.increment_seconds,
        connect_fee=row.connect_fee,
        free_seconds=row.free_seconds,
        min_charge=row.min_charge,
        max_charge=row.max_charge,
        decimals=row.decimals,
        rounding=row.rounding,
    )


def at(moment_ms: int) -> datetime:
    """Unix milliseconds as a time in UTC."""
    return _EPOCH + timedelta(milliseconds=moment_ms)


def _moment(moment_ms: int | None) -> datetime | None:
    return None if moment_ms is None else at(moment_ms)
