"""A round of the demo: play the provider's webhooks, and watch what becomes of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from relay.demo.provider import Answer, Webhook, send, webhooks
from relay.demo.screen import Screen
from relay.demo.stage import Stage
from relay.demo.verdict import Tally
from relay.store.charges import Charge

# All must be accounted for within this; an idle machine needs half a second.
DEADLINE_SECONDS: Final = 30.0
# How long one webhook is watched before the next is played: six times this is within the deadline.
_WATCH_SECONDS: Final = 4.0
_POLL_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One webhook and what became of it.

    `delivered_ms` counts from its acceptance until the receiver had verified it, None if it has not; `charges` are
    what it added to the ledger.
    """

    webhook: Webhook
    answer: Answer
    delivered_ms: float | None = None
    charges: tuple[Charge, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What was played, and what it came to."""

    played: tuple[Played, ...]
    tally: Tally

    @property
    def calls(self) -> int:
        """How many calls ended in it; each is to be charged once."""
        return len({one.webhook.conversation_id for one in self.played if one.webhook.ends_call})


def play(stage: Stage, screen: Screen) -> Round:
    """Play one round, showing each step as it happens. Raises ProcessFailed if a process ends meanwhile."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    played = [_watched(webhook, stage, screen) for webhook in webhooks(stage.customer, now_ms=int(time.time() * 1000))]
    accepted = {one.answer.event_id for one in played if one.answer.event_id is not None}
    _until(lambda: _is_settled(accepted, stage), stage, within_seconds=deadline - time.monotonic())
    final = _brought_up_to_date(played, stage)
    return Round(played=final, tally=_tally(final, accepted, stage))


def _watched(webhook: Webhook, stage: Stage, screen: Screen) -> Played:
    """Send one webhook and show what becomes of it, for a while."""
    before = stage.evidence.charges_of(webhook.conversation_id)
    screen.webhook(webhook.provider, webhook.event)
    answer = send(webhook, stage.web)
    screen.accepted(answer.status, answer.event_id, answer.duration_ms)
    played = Played(webhook=webhook, answer=answer)
    if answer.event_id is None:
        return played
    stage.receiver.verified_at(answer.event_id, within_seconds=_WATCH_SECONDS)
    played = replace(played, delivered_ms=_delivered_ms(answer, stage))
    screen.delivered(played.delivered_ms)
    if webhook.ends_call:
        # When nothing waits to be billed, the ledger has said all that it will say of this webhook.
        _until(stage.evidence.is_drained, stage, within_seconds=_WATCH_SECONDS)
        played = replace(played, charges=tuple(stage.evidence.charges_of(webhook.conversation_id)[len(before) :]))
        screen.charged(played.charges, is_charged_already=bool(before))
    return played


def _is_settled(event_ids: set[str], stage: Stage) -> bool:
    are_delivered = all(stage.receiver.verified_at(event_id) is not None for event_id in event_ids)
    return are_delivered and stage.evidence.is_drained()


def _brought_up_to_date(played: Sequence[Played], stage: Stage) -> tuple[Played, ...]:
    """The same webhooks with what became of them after they were watched."""
    shown = {charge.id for one in played for charge in one.charges}
    final = []
    for one in played:
        late = []
        if one.webhook.ends_call:
            late = [c for c in stage.evidence.charges_of(one.webhook.conversation_id) if c.id not in shown]
            shown.update(charge.id for charge in late)
        delivered_ms = _delivered_ms(one.answer, stage)
        final.append(replace(one, delivered_ms=delivered_ms, charges=(*one.charges, *late)))
    return tuple(final)


def _delivered_ms(answer: Answer, stage: Stage) -> float | None:
    """0 where the delivery was quicker than the answer to the provider."""
    at = None if answer.event_id is None else stage.receiver.verified_at(answer.event_id)
    return None if at is None else max(0.0, at - answer.at) * 1000


def _tally(played: Sequence[Played], accepted: set[str], stage: Stage) -> Tally:
    return Tally(
        accepted=len(accepted),
        delivered=len({one.answer.event_id for one in played if one.delivered_ms is not None}),
        refused=stage.receiver.counts.refused,
        dead=stage.evidence.dead(),
        charged=stage.evidence.charged(),
        held=stage.evidence.held(accepted),
        unaccounted=stage.evidence.unaccounted(),
    )


def _until(is_so: Callable[[], bool], stage: Stage, *, within_seconds: float) -> None:
    """Wait until it is so, at most that long. Raises ProcessFailed if a process ends meanwhile."""
    deadline = time.monotonic() + within_seconds
    while not is_so() and time.monotonic() < deadline:
        stage.processes.check()
        time.sleep(_POLL_SECONDS)
