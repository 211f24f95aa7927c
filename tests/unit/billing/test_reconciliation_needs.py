"""What is to be done about a call that its provider has ended: pure decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace as replaced

from relay.calls import TRUST_KEY, TRUST_PROVIDER, TRUST_SOURCE, CallEvent, Ending
from relay.providers.records import CallRecord
from relay.reconciliation import decisions
from relay.reconciliation.decisions import Need
from relay.store.reconciling import Known

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)
DAY_MS = 86_400_000


def record(seconds: str | None = "60", *, cost: str | None = None, start_ms: int | None = START_MS) -> CallRecord:
    """A call as ElevenLabs lists it."""
    call = CallEvent(
        provider="elevenlabs",
        kind="post_call_transcription",
        event_class="complete",
        conversation_id="conv_1",
        ending=Ending(status="completed", duration_seconds=seconds, started_at_ms=start_ms, provider_cost_usd=cost),
    )
    return CallRecord(call=call, is_over=True)


def known(
    seconds: str | None = "60",
    *,
    reason: str | None = None,
    terminal_ms: int | None = START_MS,
    trust: int | None = TRUST_SOURCE,
    rated_at: datetime | None = START,
    rank: int = 3,
    asked_at: datetime | None = None,
) -> Known:
    """Its session."""
    return Known(
        account_id="acc_1",
        id=1,
        conversation_id="conv_1",
        template_id=None,
        rated_at=rated_at,
        duration_seconds=None if seconds is None else Decimal(seconds),
        unrated_reason=reason,
        terminal_ms=terminal_ms,
        terminal_trust=trust,
        terminal_rank=rank,
        asked_at=asked_at,
        livemode=True,
        content_erased_at=None,
        deleted_at=None,
    )


@pytest.mark.parametrize(
    ("theirs", "ours", "wanted"),
    [
        (record(), None, Need.FOUND),  # nobody told us of it at all
        (record(), known(None, terminal_ms=None), Need.FOUND),  # it began, and nobody told how it ended
        (record(None), None, Need.FOUND),  # also where the provider does not say for how long: that is unrated
        (record(), known(), Need.NONE),
        (record("60.0"), known("60"), Need.NONE),  # numbers, not texts
        (record("0"), known(None), Need.NONE),  # a failure of which nothing was measured is not charged either
        (record("61"), known(), Need.CORRECTED),
        (record("61"), known(trust=TRUST_PROVIDER), Need.CORRECTED),  # its record is its last word
        (record(None), known(), Need.NONE),  # it does not say: what we have stays
        (record("-1"), known(), Need.NONE),  # nonsense charges nobody
        (record("90000"), known(), Need.NONE),  # longer than a day is nonsense, too
        (record(), known(rated_at=START - timedelta(days=40)), Need.CORRECTED),  # another month, or another card
        (record(), known(rated_at=START + timedelta(minutes=5)), Need.CORRECTED),  # no event has told of its start
        (record(), known(rated_at=START + timedelta(milliseconds=900)), Need.NONE),  # rounded to seconds
        (record(start_ms=START_MS + 30 * DAY_MS), known(), Need.NONE),  # a clock that is wrong chooses no card
        (record(start_ms=1), known(), Need.NONE),
        (record(start_ms=None), known(), Need.NONE),
        (record(), known(None, reason="duration_missing"), Need.RATED),
        (record(), known(None, reason="duration_invalid"), Need.RATED),
        (record(None), known(None, reason="duration_missing"), Need.NONE),  # it does not know either
        (record(), known(reason="provider_cost_missing"), Need.NONE),  # it still does not tell its cost
        (record(cost="0.04"), known(reason="provider_cost_missing"), Need.RATED),
        (record("61"), known(reason="no_rate_card"), Need.NONE),  # a card mends it, and its provider cannot
        (record("61"), known(None, reason="no_rate_card"), Need.RATED),  # no card does without a length
        (record(None), known(None, reason="no_rate_card"), Need.NONE),
        (record("61"), known(None, reason="currency_mismatch"), Need.NONE),
    ],
)
def test_a_call_is_charged_by_its_providers_record_where_that_knows_better(
    theirs: CallRecord, ours: Known | None, wanted: Need
) -> None:
    """Else what was charged stays."""
    assert decisions.need(theirs, ours) is wanted


@pytest.mark.parametrize(
    ("ours", "wanted"),
    [
        (known(trust=TRUST_PROVIDER), True),
        (known(trust=None), True),  # of a version that knew of no trust
        (known(trust=TRUST_SOURCE), False),
        (known(trust=TRUST_KEY), False),
        (known(None, reason="duration_missing", trust=TRUST_PROVIDER), False),
        (known(None, terminal_ms=None), False),
        (None, False),
    ],
)
def test_only_what_its_provider_itself_has_told_need_not_be_asked_for(ours: Known | None, wanted: bool) -> None:
    """Agora's list says of no agent for how long it was there."""
    assert decisions.is_settled(ours) is wanted


def test_a_record_that_says_neither_length_nor_end_is_silent() -> None:
    """So that it is asked for alone."""
    assert decisions.is_silent(record(None))
    assert not decisions.is_silent(record("0"))
    without = record()
    assert decisions.is_silent(replaced(without, call=replaced(without.call, ending=None)))
    assert decisions.ended_at(record()) == START


@pytest.mark.parametrize(
    ("kind", "ours", "wanted"),
    [
        ("post_call_transcription", known(), False),  # what told of its end was relayed, whatever Postgres remembers
        ("post_call_transcription", known(asked_at=START), True),  # found here, and perhaps not relayed any more
        ("post_call_transcription", known(terminal_ms=None, asked_at=START), False),  # asked for when it went on
        ("call_analyzed", known(rank=2), True),  # its `call_ended` came, and its analysis never did
        ("call_analyzed", known(rank=3), False),
        ("call_ended", known(rank=2), False),  # of a call in error there is nothing more
        ("call_analyzed", None, False),
    ],
)
def test_a_charged_session_is_relayed_only_where_nobody_was_told_how_it_ended(
    kind: str, ours: Known | None, wanted: bool
) -> None:
    """A database that was restored knows of charges again, and not of what was delivered since."""
    told = record()
    assert decisions.is_unrelayed(replaced(told, call=replaced(told.call, kind=kind)), ours) is wanted
