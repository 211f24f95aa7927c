"""A bill rated once more from what is known of its call: by other terms, or by facts without an event. Pure."""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from billing.assessment import Assessment, Posted, card_for, known_cost, rate, unrated
from billing.bills import Session
from billing.duration import Duration, Unrated, UnratedReason
from relay.store.rate_cards import Cards


def revised(session: Session, posted: Posted, cards: Cards, *, why: str, seconds: Decimal | None = None) -> Assessment:
    """What the bill comes to by the session's present terms and the account's `cards`.

    `seconds` None is the duration that is known. The assessment has no entries where the ledger says so already; where
    it cannot be rated it has a `reason`, and the caller leaves the bill as it is. `why` completes the sentence
    `reverses charge 1: `. The word that counts stays whose it was. Raises ValueError for a session whose end was never
    told.
    """
    if session.rated_at is None:
        raise ValueError("only a session that has ended can be rated again")
    known = session.duration_seconds if seconds is None else seconds
    card = card_for(cards, session.rated_at, session.terms)
    provider_cost = known_cost(session.provider_cost_usd)
    told = Assessment(is_news=True, authority=posted.authority, duration_seconds=known, rated_at=session.rated_at)
    reason = unrated(_duration(known), card, provider_cost, is_waived=session.waiver is not None)
    if reason is not None or card is None or known is None:
        return replace(told, reason=reason)
    charge, entries = rate(
        known,
        card,
        terms=session.terms,
        rated_at=session.rated_at,
        provider_cost_usd=provider_cost,
        waived=session.waiver,
        posted=posted,
        why=why,
    )
    authority = replace(posted.authority, rated=True)
    return replace(told, authority=authority, entries=entries, charge=charge, rate_card_id=card.id)


def _duration(seconds: Decimal | None) -> Duration | Unrated:
    if seconds is None:
        return Unrated(UnratedReason.DURATION_MISSING)
    return Duration(seconds=seconds, provider_seconds=None, elapsed_seconds=None, mismatch=False)
