"""What a terminal event makes of a session's bill: a pure decision from what is there and what is told.

The same events give the same bill in any order: of two that differ, the more authoritative wins, whichever came
first. A corrected duration posts a reversal of what was charged and a new charge; nothing is ever changed in place.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final

import msgspec
from msgspec.structs import replace

from billing import month_prices
from billing.cost import Charge, cost
from billing.duration import Duration, Unrated, UnratedReason, billable_duration
from billing.entries import Entry, charged, reversed_by
from billing.money import parse_number, round_money
from billing.rates import RateCard
from relay.calls import TRUST_KEY, TRUST_PROVIDER, Ending, Facts
from relay.store.rate_cards import Cards, RateCardRow
from relay.store.terms import Limit, Terms

# Why a call is not charged whose customer pays the provider: it ran on a key of the account's own.
OWN_KEY: Final = "own_provider_key"

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
# A provider that asks more for one call is mistaken, in the unit most likely: cents, or credits.
_MOST_PROVIDER_COST: Final = Decimal(100_000)
_NO_TERMS: Final = Terms()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# A call that began before this was told in seconds where milliseconds were meant, or by a clock that was never set.
_EARLIEST_MS: Final = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000)
# No clock is so far ahead, in whatever time zone it was set, and no call ends before it begins.
_AHEAD_MS: Final = 24 * 3_600_000
# What is farther ahead than ten years was told in microseconds.
_OTHER_UNIT_MS: Final = 10 * 365 * 24 * 3_600_000


class Authority(msgspec.Struct, frozen=True, order=True):
    """How much a terminal event's word counts.

    A provider's before anything that an account may sign itself, also where the provider's cannot be charged: somebody
    has to look then, and no account says instead what it owes. Among equals rated before unrated; then the worth of the
    proof (relay.calls.TRUST_...), then the event's rank, then the later acceptance.
    """

    is_providers: bool
    rated: bool
    trust: int
    rank: int
    accepted_at_ms: int

    @classmethod
    def of(cls, *, rated: bool, trust: int, rank: int, accepted_at_ms: int) -> Authority:
        """Of an event by its proof."""
        return cls(trust >= TRUST_PROVIDER, rated, trust, rank, accepted_at_ms)


class Posted(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a session's bill: by which event's word, and the rows of its newest charge, if one stands.

    `last` is the number of the last charge row that there ever was.
    """

    authority: Authority
    charge: tuple[Entry, ...]
    last: int = 0


class Assessment(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written: ledger rows, and the session as it now stands.

    `charge` None with a `reason` is a session that cannot be rated; `is_news` False means that what is there stays.
    `rated_at` is the moment that chose the card, and the day on which the session is counted. `is_mismatch`: the
    provider's duration and its end - start are more than a second apart.
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
    rated_at: datetime | None = None
    is_mismatch: bool = False


def assess(
    facts: Facts,
    cards: Cards,
    posted: Posted | None,
    *,
    terms: Terms = _NO_TERMS,
    limit: Limit | None = None,
    waived: str | None = None,
) -> Assessment:
    """Decide what a terminal event does to the bill of its session.

    `cards` are the account's; `terms` those of the session, whose own card comes before all others whenever it begins.
    `limit` is how long its call could last; `waived` why an operator charges nothing for it, whatever it lasted.
    `posted` is None when nothing was said of this session yet. `facts.call.ending` must be there. A recording that was
    charged is never rated again. A start that cannot be is taken for none was told: then the call is rated by when its
    end was told, also where a word that counts for less has a start, so that no order of events makes a difference.
    """
    if facts.call.ending is None:
        raise ValueError("only an event that ends a call can be assessed")
    if posted is not None and posted.charge and facts.call.provider == _RATED_ONCE:
        return Assessment(is_news=False, authority=posted.authority)
    ending = _believed(facts.call.ending, facts.accepted_at_ms)
    started_at, ended_at = _moment(ending.started_at_ms), _moment(ending.ended_at_ms)
    occurred_at_ms = facts.call.occurred_at_ms if _may_be(facts.call.occurred_at_ms, facts.accepted_at_ms) else None
    rated_at = believed_start(ending, facts.accepted_at_ms) or _moment(occurred_at_ms) or at(facts.accepted_at_ms)
    duration = billable_duration(ending, provider=facts.call.provider, max_seconds=_longest(limit, rated_at))
    card = card_for(cards, rated_at, terms)
    # What a customer's own program says that its provider asks is no base of a price.
    provider_cost = known_cost(ending.provider_cost_usd) if facts.trust > TRUST_KEY else None
    waived = OWN_KEY if terms.own_key else waived
    is_free = _is_free(ending)
    reason = None if is_free else unrated(duration, card, provider_cost, is_waived=waived is not None)
    authority = Authority.of(
        rated=reason is None and not is_free,
        trust=facts.trust,
        rank=_rank(facts),
        accepted_at_ms=facts.accepted_at_ms,
    )
    if posted is not None and posted.authority >= authority:
        return Assessment(is_news=False, authority=posted.authority)
    told = Assessment(
        is_news=True,
        authority=authority,
        reason=reason,
        started_at=started_at,
        ended_at=ended_at,
        rated_at=rated_at,
        is_mismatch=isinstance(duration, Duration) and duration.mismatch,
    )
    if is_free or reason is not None or isinstance(duration, Unrated) or card is None:
        seconds = None if is_free or isinstance(duration, Unrated) else duration.seconds
        taken_back = (
            () if posted is None else reversed_by(posted.charge, f"the provider's word is {reason or 'failed'}")
        )
        return replace(told, duration_seconds=seconds, entries=taken_back)
    charge, entries = rate(
        duration.seconds,
        card,
        terms=terms,
        rated_at=rated_at,
        provider_cost_usd=provider_cost,
        waived=waived,
        posted=posted,
        why="a more authoritative event gave other facts",
    )
    return replace(told, entries=entries, charge=charge, duration_seconds=duration.seconds, rate_card_id=card.id)


def believed_start(ending: Ending, accepted_at_ms: int) -> datetime | None:
    """When a call began that was told of then; None if that was not told, or cannot be."""
    return _moment(ending.started_at_ms) if _may_be(ending.started_at_ms, accepted_at_ms) else None


def card_for(cards: Cards, rated_at: datetime, terms: Terms) -> RateCardRow | None:
    """The card of a session: the one pinned to it, else its template's, its tag's or its account's at that moment."""
    pinned = cards.by_id.get(terms.pinned_card_id) if terms.pinned_card_id else None
    return pinned or cards.at(rated_at, template_id=terms.template_id, tag=terms.tag)


def rate(
    seconds: Decimal,
    card: RateCardRow,
    *,
    terms: Terms,
    rated_at: datetime,
    provider_cost_usd: Decimal | None,
    waived: str | None,
    posted: Posted | None,
    why: str,
) -> tuple[Charge, tuple[Entry, ...]]:
    """What a call costs by this card, and the rows that make the ledger say so.

    No rows if it does already; else what was `posted` is taken back first, and `why` says for what reason. Raises
    BillingError where the card needs the provider's cost and there is none.
    """
    charge = cost(seconds, card_of(card), provider_cost=provider_cost_usd, waived=waived)
    standing = () if posted is None else posted.charge
    entries = charged(
        charge,
        card=card,
        after=0 if posted is None else max([posted.last, *(entry.sequence for entry in standing)]),
        started_at=rated_at,
        duration_seconds=seconds,
        provider_cost_usd=provider_cost_usd if card.markup is not None else None,
        template_id=terms.template_id,
        tag=terms.tag,
    )
    if not standing:
        return charge, entries
    if _inputs(standing[0]) == _inputs(entries[0]):
        return charge, ()
    return charge, (*reversed_by(standing, why), *entries)


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


def _believed(ending: Ending, accepted_at_ms: int) -> Ending:
    """What was told, without times in another unit: end - start of those is no duration either.

    A clock that is merely wrong still measures how long a call lasted; it chooses neither its price nor its month.
    """
    if ending.started_at_ms is None or _EARLIEST_MS <= ending.started_at_ms <= accepted_at_ms + _OTHER_UNIT_MS:
        return ending
    return replace(ending, started_at_ms=None, ended_at_ms=None)


def _may_be(moment_ms: int | None, accepted_at_ms: int) -> bool:
    return moment_ms is not None and _EARLIEST_MS <= moment_ms <= accepted_at_ms + _AHEAD_MS


def _longest(limit: Limit | None, began_at: datetime) -> int | None:
    """How long a call could last whose agent was given a limit, if it had that already when the call began."""
    return limit.seconds if limit is not None and limit.since <= began_at else None


def unrated(
    duration: Duration | Unrated, card: RateCardRow | None, provider_cost: Decimal | None, *, is_waived: bool = False
) -> UnratedReason | None:
    """Why a call cannot be charged; None if it can. A waived one needs no cost of the provider: it costs 0 anyway."""
    if isinstance(duration, Unrated):
        return duration.reason
    if card is None:
        return UnratedReason.NO_RATE_CARD
    if card.markup is not None and duration.seconds and provider_cost is None and not is_waived:
        return UnratedReason.PROVIDER_COST_MISSING
    return None


def known_cost(provider_cost_usd: Decimal | str | None) -> Decimal | None:
    """What the provider says that the call cost it; None if it is no amount that anything can be charged by."""
    told = parse_number(provider_cost_usd) if isinstance(provider_cost_usd, str) else provider_cost_usd
    if told is None or not 0 <= told <= _MOST_PROVIDER_COST:
        return None
    return round_money(told)


def _inputs(entry: Entry) -> tuple[object, ...]:
    """What the price follows from, and where it counts: its month, template and tag.

    A start that becomes known later matters only if it chooses another card or another month.
    """
    month = entry.started_at.astimezone(UTC).strftime("%Y-%m")
    price = entry.duration_seconds, entry.rate_card_id, entry.reason, entry.provider_cost_usd
    return *price, month, entry.template_id, entry.tag


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
        components=row.components,
        markup=row.markup,
        month=None if row.month_price is None else month_prices.read(row.month_price),
    )


def at(moment_ms: int) -> datetime:
    """Unix milliseconds as a time in UTC."""
    return _EPOCH + timedelta(milliseconds=moment_ms)


def _moment(moment_ms: int | None) -> datetime | None:
    return None if moment_ms is None else at(moment_ms)
