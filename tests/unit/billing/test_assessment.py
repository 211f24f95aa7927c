"""What a terminal event does to a bill: decided without a database."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from billing.assessment import Assessment, Posted, assess
from billing.duration import UnratedReason
from relay.calls import TRUST_KEY, TRUST_PROVIDER, TRUST_SOURCE, CallEvent, CallStatus, Ending, Facts
from relay.store.rate_cards import Cards, RateCardRow
from relay.store.terms import Terms

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)

CARD = RateCardRow(
    id="rc_1",
    account_id="acc_1",
    per_minute=Decimal("0.10"),
    currency="USD",
    initial_seconds=1,
    increment_seconds=1,
    connect_fee=Decimal(0),
    free_seconds=0,
    min_charge=None,
    max_charge=None,
    decimals=6,
    rounding="half_up",
    effective_from=None,
    created_at=NOON,
)


def priced(*rows: RateCardRow) -> Cards:
    """An account's cards, in the order in which they begin."""
    cards = Cards()
    for row in rows:
        cards.add(row)
    return cards


CARDS = priced(CARD)


def told(
    kind: str,
    seconds: str | None,
    *,
    provider: str = "retell",
    status: CallStatus = "completed",
    started_at_ms: int | None = NOON_MS,
    accepted_at_ms: int = NOON_MS,
    trust: int = TRUST_SOURCE,
) -> Facts:
    """The facts of a terminal event, from a source of the account's own unless its `trust` is another."""
    ending = Ending(status=status, duration_seconds=seconds, started_at_ms=started_at_ms)
    call = CallEvent(
        provider=provider, kind=kind, event_class="event", conversation_id="call_1", dedupe=(kind,), ending=ending
    )
    return Facts(
        event_id="evt_1", account_id="acc_1", call=call, session_id=1, accepted_at_ms=accepted_at_ms, trust=trust
    )


def posted(assessment: Assessment) -> Posted:
    """What is known after an assessment was written."""
    charged = tuple(entry for entry in assessment.entries if entry.kind == "charge")
    return Posted(authority=assessment.authority, charge=charged)


def test_first_event_posts_one_charge() -> None:
    """91 s at 0.10 USD a minute is charged once, with its steps."""
    assessment = assess(told("call_ended", "91"), CARDS, None)
    (entry,) = assessment.entries
    assert (entry.kind, entry.sequence, entry.amount, entry.billed_seconds) == ("charge", 1, Decimal("0.151667"), 91)
    assert entry.steps


def test_equal_facts_change_nothing_in_the_ledger() -> None:
    """Retell's second terminal event with the same duration posts no row."""
    first = assess(told("call_ended", "91"), CARDS, None)
    second = assess(told("call_analyzed", "91.000", accepted_at_ms=NOON_MS + 5), CARDS, posted(first))
    assert second.is_news
    assert second.entries == ()


def test_differing_facts_reverse_and_charge_again() -> None:
    """A corrected duration takes back exactly what was charged and charges the new one."""
    first = assess(told("call_ended", "91"), CARDS, None)
    second = assess(told("call_analyzed", "61"), CARDS, posted(first))
    reversal, charge = second.entries
    assert (reversal.kind, reversal.sequence, reversal.amount) == ("reversal", 1, Decimal("-0.151667"))
    assert (charge.kind, charge.sequence, charge.amount) == ("charge", 2, Decimal("0.101667"))
    total = first.entries[0].amount + reversal.amount + charge.amount
    assert total == charge.amount


def test_less_authoritative_event_that_comes_later_changes_nothing() -> None:
    """Reversed order gives the same bill: call_ended after call_analyzed has no say."""
    first = assess(told("call_analyzed", "61"), CARDS, None)
    second = assess(told("call_ended", "91", accepted_at_ms=NOON_MS + 60_000), CARDS, posted(first))
    assert not second.is_news
    assert second.entries == ()


def test_signed_webhook_wins_over_the_customers_own_complete() -> None:
    """ElevenLabs' signed transcription corrects what /complete said, never the other way round."""
    complete = assess(told("complete", "100", provider="elevenlabs", trust=TRUST_KEY), CARDS, None)
    signed = told("post_call_transcription", "90", provider="elevenlabs")
    corrected = assess(signed, CARDS, posted(complete))
    assert [entry.kind for entry in corrected.entries] == ["reversal", "charge"]
    again = assess(told("complete", "100", provider="elevenlabs", trust=TRUST_KEY), CARDS, posted(corrected))
    assert not again.is_news


# What a provider says by a source that is not the account's, and what the account may write about the same call.
PROVIDERS_WORD = told("call_ended", "3600", trust=TRUST_PROVIDER)
FORGED = [
    told("call_analyzed", "0", accepted_at_ms=NOON_MS + 1, trust=TRUST_SOURCE),
    told("call_analyzed", "1", accepted_at_ms=NOON_MS + 2, trust=TRUST_KEY),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_providers_word_stands_against_what_the_account_signs_itself(order: tuple[int, ...]) -> None:
    """However much later, and whatever kind of event it says that it is; in any order the hour is what is charged."""
    events = [PROVIDERS_WORD, *FORGED]
    known: Posted | None = None
    amounts = []
    for place in order:
        assessment = assess(events[place], CARDS, known)
        amounts += [entry.amount for entry in assessment.entries]
        if assessment.is_news:
            known = posted(assessment)
    assert sum(amounts) == Decimal("6.00")
    assert known is not None
    assert known.charge
    assert known.charge[0].duration_seconds == Decimal(3600)


def test_a_secrets_word_in_elevenlabs_form_counts_like_any_complete() -> None:
    """Its form proves nothing: of two that the secret proves the later one wins, as always."""
    formed = told("post_call_transcription", "90", provider="elevenlabs", trust=TRUST_KEY)
    later = told("complete", "100", provider="elevenlabs", trust=TRUST_KEY, accepted_at_ms=NOON_MS + 1)
    first = assess(formed, CARDS, None)
    assert assess(later, CARDS, posted(first)).is_news


def test_a_providers_word_that_cannot_be_charged_stands_against_the_accounts_own() -> None:
    """In either order: what the account said is taken back, or not taken, and somebody has to look."""
    silent = told("call_ended", None, started_at_ms=None, accepted_at_ms=NOON_MS + 5, trust=TRUST_PROVIDER)
    charged = assess(FORGED[1], CARDS, None)
    after = assess(silent, CARDS, posted(charged))
    assert (after.reason, [entry.kind for entry in after.entries]) == (UnratedReason.DURATION_MISSING, ["reversal"])
    assert not assess(FORGED[1], CARDS, posted(assess(silent, CARDS, None))).is_news


def test_a_charge_after_one_that_was_taken_back_is_numbered_on() -> None:
    """A number is never used twice."""
    silent = told("call_ended", None, started_at_ms=None, accepted_at_ms=NOON_MS + 5, trust=TRUST_PROVIDER)
    unrated = assess(silent, CARDS, posted(assess(FORGED[1], CARDS, None)))
    known = Posted(authority=unrated.authority, charge=(), last=1)
    (charge,) = assess(told("call_analyzed", "60", trust=TRUST_PROVIDER), CARDS, known).entries
    assert (charge.kind, charge.sequence, charge.duration_seconds) == ("charge", 2, Decimal(60))


def test_what_the_customers_own_program_says_of_the_providers_cost_is_no_base() -> None:
    """A markup on it would be a price that the customer makes."""
    markup = priced(replace(CARD, per_minute=Decimal(0), markup=Decimal("1.5")))
    for trust, reason in ((TRUST_KEY, UnratedReason.PROVIDER_COST_MISSING), (TRUST_PROVIDER, None)):
        facts = told("complete", "60", provider="elevenlabs", trust=trust)
        assert facts.call.ending is not None
        with_cost = msgspec.structs.replace(facts.call.ending, provider_cost_usd="0.000001")
        call = msgspec.structs.replace(facts.call, ending=with_cost)
        assert assess(msgspec.structs.replace(facts, call=call), markup, None).reason is reason


def test_rated_event_wins_over_an_unrated_one_whatever_its_rank() -> None:
    """An analysis without a duration does not undo a charge, and a late duration rates what was unrated."""
    rated = assess(told("call_ended", "91"), CARDS, None)
    silent = assess(told("call_analyzed", None, started_at_ms=None), CARDS, posted(rated))
    assert not silent.is_news
    unrated = assess(told("call_analyzed", None), CARDS, None)
    assert unrated.reason is UnratedReason.DURATION_MISSING
    late = assess(told("call_ended", "91"), CARDS, posted(unrated))
    assert [entry.kind for entry in late.entries] == ["charge"]


@pytest.mark.parametrize(
    ("seconds", "status", "reason"),
    [
        (None, "completed", UnratedReason.DURATION_MISSING),  # absent is not zero
        ("-1", "completed", UnratedReason.DURATION_NEGATIVE),
        ("NaN", "completed", UnratedReason.DURATION_INVALID),
        ("86401", "completed", UnratedReason.DURATION_TOO_LONG),  # no provider lets a call run for more than a day
    ],
)
def test_unusable_duration_is_unrated(seconds: str | None, status: CallStatus, reason: UnratedReason) -> None:
    """Nonsense never becomes a charge, and never a silent zero."""
    assessment = assess(told("call_ended", seconds, status=status), CARDS, None)
    assert assessment.reason is reason
    assert assessment.entries == ()


@pytest.mark.parametrize("seconds", ["0", None])
def test_failed_call_without_duration_costs_zero(seconds: str | None) -> None:
    """Busy and no answer are rated: a row of zero, not an alarm."""
    assessment = assess(told("call_ended", seconds, status="failed"), CARDS, None)
    assert assessment.reason is None
    assert [entry.amount for entry in assessment.entries] == [Decimal(0)]


def test_call_before_any_card_is_unrated_and_not_free() -> None:
    """A card that begins later does not price an earlier call."""
    later = replace(CARD, effective_from=datetime(2026, 11, 21, tzinfo=UTC))
    assert assess(told("call_ended", "91"), priced(later), None).reason is UnratedReason.NO_RATE_CARD
    assert assess(told("call_ended", "91"), Cards(), None).reason is UnratedReason.NO_RATE_CARD


def test_an_own_key_needs_no_cost_of_the_provider() -> None:
    """What the account pays its provider is 0 here, whether or not the provider tells it; others wait for it."""
    marked_up = priced(replace(CARD, per_minute=Decimal(0), markup=Decimal("1.2")))
    assert assess(told("call_ended", "91"), marked_up, None).reason is UnratedReason.PROVIDER_COST_MISSING
    (entry,) = assess(told("call_ended", "91"), marked_up, None, terms=Terms(own_key=True)).entries
    assert (entry.reason, entry.list_amount, entry.billed_seconds) == ("own_provider_key", None, 91)
    assert entry.amount == 0


def test_card_is_chosen_by_the_calls_start() -> None:
    """A call that began before the new price pays the old one, whenever its webhook comes."""
    newer = replace(CARD, id="rc_2", per_minute=Decimal("0.20"), effective_from=NOON)
    before = assess(told("call_ended", "60", started_at_ms=NOON_MS - 1), priced(CARD, newer), None)
    at_once = assess(told("call_ended", "60", started_at_ms=NOON_MS), priced(CARD, newer), None)
    assert (before.rate_card_id, at_once.rate_card_id) == ("rc_1", "rc_2")


def measured_nothing(code: str | None) -> Facts:
    """A recording that could not be measured."""
    facts = told("recording", None, provider="canonical", status="failed", started_at_ms=None)
    return replace_ending(facts, Ending(status="failed", code=code))


def replace_ending(facts: Facts, ending: Ending) -> Facts:
    """The same with another end."""
    return msgspec.structs.replace(facts, call=msgspec.structs.replace(facts.call, ending=ending))


@pytest.mark.parametrize("cards", [Cards(), CARDS])
def test_a_failure_that_we_know_the_reason_of_is_not_charged(cards: Cards) -> None:
    """No row, not even of 0, and nothing that is unrated; no rate card is needed for that."""
    found = assess(measured_nothing("unreachable"), cards, None)
    assert (found.is_news, found.entries, found.charge, found.reason) == (True, (), None, None)


def test_what_is_measured_after_a_failure_is_charged_and_stays() -> None:
    """Measured counts more than failed, whichever comes first."""
    failed = assess(measured_nothing("unreachable"), CARDS, None)
    done = told("recording", "60", provider="canonical")
    charged = assess(done, CARDS, posted(failed))
    assert [entry.amount for entry in charged.entries] == [Decimal("0.100000")]
    later = msgspec.structs.replace(measured_nothing("not_audio"), accepted_at_ms=NOON_MS + 9)
    assert not assess(later, CARDS, posted(charged)).is_news


@pytest.mark.parametrize("again", ["0.001", "59", "60", "7200"])
def test_a_recording_that_was_charged_is_not_rated_again(again: str) -> None:
    """Its call id may be handed in once more when repeats are forgotten: what was measured first is final."""
    charged = assess(told("recording", "60", provider="canonical"), CARDS, None)
    later = told("recording", again, provider="canonical", accepted_at_ms=NOON_MS + 48 * 3_600_000)
    found = assess(later, CARDS, posted(charged))
    assert (found.is_news, found.entries) == (False, ())


def test_a_channel_at_agora_is_charged_beyond_a_day() -> None:
    """Agora's calls may last three days; the day of the others is not theirs."""
    found = assess(told("agent_left", "90000", provider="agora"), CARDS, None)
    assert [entry.amount for entry in found.entries] == [Decimal(150)]
