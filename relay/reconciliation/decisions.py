"""What is to be done about a call that its provider has ended. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from billing.assessment import believed_start
from billing.duration import Duration, UnratedReason, billable_duration
from billing.money import ZERO
from relay.calls import TRUST_PROVIDER
from relay.providers import retell
from relay.providers.records import CallRecord
from relay.store.reconciling import Known

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Providers round a start to the second in one place and not in another.
_SAME_START: Final = timedelta(seconds=1)
# Of Retell's `call_ended`, in billing.assessment.
_RANK_ENDED: Final = 2
# What the provider may know by now. What only a rate card can mend is left to who adds one.
_MAY_BE_MENDED: Final = frozenset({
    UnratedReason.DURATION_MISSING, UnratedReason.DURATION_INVALID, UnratedReason.DURATION_NEGATIVE,
    UnratedReason.DURATION_TOO_LONG, UnratedReason.PROVIDER_COST_MISSING,
})  # fmt: skip


class Need(StrEnum):
    """Why a call is to be charged by its provider's record."""

    NONE = "none"
    FOUND = "found"  # its end was never told
    RATED = "rated"  # it was told, and could not be charged
    CORRECTED = "corrected"  # it was charged by other facts


def need(record: CallRecord, known: Known | None) -> Need:
    """What is to be done about the charge of a call that is over. `known` is its session, if there is one."""
    if known is None or known.terminal_ms is None:
        return Need.FOUND
    theirs = seconds(record)
    if theirs is None:
        return Need.NONE
    if known.unrated_reason is not None:
        costs = record.call.ending is not None and record.call.ending.provider_cost_usd is not None
        is_lacking = known.unrated_reason == UnratedReason.PROVIDER_COST_MISSING and not costs
        if known.unrated_reason == UnratedReason.NO_RATE_CARD and known.duration_seconds is None:
            # Of a version that did not keep it: without it no card that is added mends anything.
            return Need.RATED
        return Need.RATED if known.unrated_reason in _MAY_BE_MENDED and not is_lacking else Need.NONE
    if theirs != (known.duration_seconds or ZERO) or _began_otherwise(record, known):
        return Need.CORRECTED
    return Need.NONE


def is_unrelayed(record: CallRecord, known: Known | None) -> bool:
    """Whether a session that was charged may still have to be relayed, unless an event says that it was.

    One that was found and charged here, or a call of Retell's whose analysis never came. Of others the end was told by
    what was relayed, even if Postgres has forgotten that event: it may be restored from a backup, and charged anew.
    """
    if known is None or known.terminal_ms is None:
        return False
    only_ended = known.terminal_rank == _RANK_ENDED and record.call.kind == retell.ANALYZED
    return known.asked_at is not None or only_ended


def is_silent(record: CallRecord) -> bool:
    """Whether the record does not say how long the call was: Agora's list never does, and is asked for each."""
    ending = record.call.ending
    return ending is None or (ending.duration_seconds is None and ending.ended_at_ms is None)


def is_settled(known: Known | None) -> bool:
    """Whether a session was charged by its provider's own word, so that a silent record need not be asked for."""
    if known is None or known.terminal_ms is None or known.unrated_reason is not None:
        return False
    # NULL is of a version that knew of no trust.
    return known.terminal_trust is None or known.terminal_trust >= TRUST_PROVIDER


def seconds(record: CallRecord) -> Decimal | None:
    """For how long the provider says that the call lasted; None for nothing that anybody can be charged by."""
    if record.call.ending is None:
        return None
    told = billable_duration(record.call.ending, provider=record.call.provider)
    return told.seconds if isinstance(told, Duration) else None


def ended_at(record: CallRecord) -> datetime | None:
    """When the call ended, as far as the record tells."""
    ending = record.call.ending
    if ending is None:
        return None
    last_ms = ending.started_at_ms if ending.ended_at_ms is None else ending.ended_at_ms
    return None if last_ms is None else _EPOCH + timedelta(milliseconds=last_ms)


def _began_otherwise(record: CallRecord, known: Known) -> bool:
    """Whether the charge may be by another card, or in another month, than the provider's start has it."""
    ending = record.call.ending
    if ending is None or known.terminal_ms is None or known.rated_at is None:
        return False
    began_at = believed_start(ending, known.terminal_ms)
    return began_at is not None and abs(began_at - known.rated_at) > _SAME_START
