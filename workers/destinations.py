"""The billing systems that rows of the ledger are sent to: how each takes them, and what it said of each."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Final, Literal, Protocol
from urllib.parse import urlencode

import msgspec

from billing.exports import lago, openmeter, stripe
from billing.exports.verdict import Verdict, by_status_of_batch
from relay.delivery.retry import AttemptResult
from relay.settings import ExportAccess, Settings
from relay.store.exports import UNKNOWN_OUTCOME, Claimed
from workers.posts import Answer, Posts

Outcome = Literal["taken", "repeated", "empty", "retried", "dead", "unsent"]

TOO_OLD: Final = "too_old"
# Stripe takes 1,000 calls a second, and one at a time for each customer and meter.
_STRIPE_THREADS: Final = 8
_STRIPE_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of one row.

    outcome    taken, repeated (it was there already), empty (there is nothing to send), retried, dead, or unsent
    code       why it was not taken
    result     of the attempt, if it is to be tried again
    may_be_taken   the destination may have it although it did not say so
    is_misdirected the request would have been refused whatever was in it
    """

    row: Claimed
    outcome: Outcome
    code: str | None = None
    result: AttemptResult | None = None
    may_be_taken: bool = False
    is_misdirected: bool = False


class Destination(Protocol):
    """A billing system."""

    @property
    def name(self) -> str:
        """As the queue knows it."""
        ...

    @property
    def batch(self) -> int:
        """How many rows it is given at once."""
        ...

    def send(self, rows: Sequence[Claimed], *, go_on: Callable[[], bool]) -> list[Tried]:
        """Send these, and say what became of each. While `go_on` is False no further request is begun."""
        ...


class Stripe:
    """Meter events, one by one: a few customers at once, each customer's own one after the other."""

    name = "stripe"
    batch = _STRIPE_BATCH

    def __init__(self, access: ExportAccess, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        # No Idempotency-Key: Stripe keeps answers by it for a day, those of its own errors too.
        self._posts = Posts(access.base_url, headers=_bearer(access))
        self._event_name = access.label
        self._clock = clock

    def send(self, rows: Sequence[Claimed], *, go_on: Callable[[], bool]) -> list[Tried]:
        """Each in a request of its own, until one fails in a way that the others would too."""
        now, tried, chains = self._clock(), list[Tried](), dict[str, deque[Claimed]]()
        for row in rows:
            settled = _settled(row, now, stripe.REMEMBERED) or self._unsendable(row, now)
            if settled is not None:
                tried.append(settled)
            else:
                chains.setdefault(row.customer or "", deque()).append(row)
        return tried + self._send_all(list(chains.values()), go_on)

    def _unsendable(self, row: Claimed, now: datetime) -> Tried | None:
        if stripe.adds_nothing(row.charge):
            return Tried(row, "empty")
        return Tried(row, "dead", code=TOO_OLD) if stripe.is_too_old(row.charge, now) else None

    def _send_all(self, chains: Sequence[deque[Claimed]], go_on: Callable[[], bool]) -> list[Tried]:
        waiting, done = SimpleQueue[deque[Claimed]](), SimpleQueue[Tried]()
        for chain in chains:
            waiting.put(chain)
        is_troubled = threading.Event()

        def work() -> None:
            try:
                while True:
                    for row in waiting.get_nowait():
                        if is_troubled.is_set() or not go_on():
                            done.put(Tried(row, "unsent"))
                            continue
                        tried = self._send_one(row)
                        if tried.outcome == "retried":
                            is_troubled.set()
                        done.put(tried)
            except Empty:
                return

        threads = [
            threading.Thread(target=work, name="export.stripe", daemon=True)
            for _ in range(min(_STRIPE_THREADS, len(chains)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [done.get_nowait() for _ in range(done.qsize())]

    def _send_one(self, row: Claimed) -> Tried:
        form = stripe.event(row.charge, customer=row.customer or "", event_name=self._event_name)
        answer = self._posts.send(stripe.PATH, urlencode(form).encode(), content_type=stripe.CONTENT_TYPE)
        return _tried(row, "again" if answer.status is None else stripe.verdict(answer.status, answer.body), answer)


class _Batches(ABC):
    """A billing system that takes many events in one request."""

    def __init__(self, access: ExportAccess, *, remembered: timedelta | None) -> None:
        self._posts = Posts(access.base_url, headers=_bearer(access))
        self._label = access.label
        self._remembered = remembered

    def send(self, rows: Sequence[Claimed], *, go_on: Callable[[], bool]) -> list[Tried]:
        """All in one request; what was refused for one event or another is sent again apart from it."""
        now, tried, sendable = datetime.now(UTC), list[Tried](), list[Claimed]()
        for row in rows:
            settled = _settled(row, now, self._remembered)
            if settled is None:
                sendable.append(row)
            else:
                tried.append(settled)
        parts = deque([sendable] if sendable else [])
        while parts:
            part = parts.popleft()
            if not go_on():
                tried += [Tried(row, "unsent") for row in part]
                continue
            answer, verdicts = self._ask(part)
            rest, decided = self._decided(part, verdicts, answer)
            parts.extendleft(reversed(rest))
            tried += decided
            if any(one.outcome == "retried" for one in decided):
                go_on = _never
        return tried

    def _decided(
        self, part: list[Claimed], verdicts: Sequence[Verdict], answer: Answer
    ) -> tuple[list[list[Claimed]], list[Tried]]:
        """What is to be sent again at once, in parts; and what became of the others."""
        if "apart" in verdicts:
            middle = len(part) // 2
            return [part[:middle], part[middle:]], []
        others = [row for row, verdict in zip(part, verdicts, strict=True) if verdict == "again"]
        if others and len(others) < len(part):  # nothing is wrong with these, but with the rest
            named = zip(part, verdicts, strict=True)
            return [others], [_tried(row, verdict, answer) for row, verdict in named if verdict != "again"]
        return [], [_tried(row, verdict, answer) for row, verdict in zip(part, verdicts, strict=True)]

    @abstractmethod
    def _ask(self, part: Sequence[Claimed]) -> tuple[Answer, list[Verdict]]:
        """Send these in one request: the answer, and a verdict for each."""


class Lago(_Batches):
    """Events of a billable metric, by the hundred. Lago knows its identifiers for ever."""

    name = "lago"
    batch = lago.BATCH

    def __init__(self, access: ExportAccess) -> None:
        super().__init__(access, remembered=None)

    def _ask(self, part: Sequence[Claimed]) -> tuple[Answer, list[Verdict]]:
        events = [lago.event(row.charge, customer=row.customer or "", code=self._label) for row in part]
        body = msgspec.json.encode(lago.batch(events))
        answer = self._posts.send(lago.PATH, body, content_type=lago.CONTENT_TYPE)
        if answer.status is None:
            return answer, ["again"] * len(part)
        return answer, lago.verdicts(answer.status, answer.body, len(part))


class OpenMeter(_Batches):
    """CloudEvents, by the hundred."""

    name = "openmeter"
    batch = openmeter.BATCH

    def __init__(self, access: ExportAccess) -> None:
        super().__init__(access, remembered=openmeter.REMEMBERED)

    def _ask(self, part: Sequence[Claimed]) -> tuple[Answer, list[Verdict]]:
        events = [openmeter.event(row.charge, customer=row.customer or "", event_type=self._label) for row in part]
        answer = self._posts.send(openmeter.PATH, msgspec.json.encode(events), content_type=openmeter.CONTENT_TYPE)
        if answer.status is None:
            return answer, ["again"] * len(part)
        return answer, by_status_of_batch(answer.status, len(part))


def configured(settings: Settings) -> Iterator[Destination]:
    """Those that this installation sends to."""
    if settings.stripe.is_configured:
        yield Stripe(settings.stripe)
    if settings.lago.is_configured:
        yield Lago(settings.lago)
    if settings.openmeter.is_configured:
        yield OpenMeter(settings.openmeter)


def _bearer(access: ExportAccess) -> dict[str, str]:
    return {"Authorization": f"Bearer {access.api_key}"} if access.api_key else {}


def _settled(row: Claimed, now: datetime, remembered: timedelta | None) -> Tried | None:
    """What becomes of a row that is not to be sent at all."""
    if row.customer is None:
        return Tried(row, "empty")
    if remembered is not None and row.sent_at is not None and row.sent_at < now - remembered:
        return Tried(row, "dead", code=UNKNOWN_OUTCOME, may_be_taken=True)
    return None


def _tried(row: Claimed, verdict: Verdict, answer: Answer) -> Tried:
    if verdict == "taken":
        return Tried(row, "taken")
    if verdict == "repeated":
        return Tried(row, "repeated")
    if verdict == "refused":
        return Tried(row, "dead", code=f"refused_{answer.status}")
    return Tried(
        row,
        "retried",
        code=answer.result.tenant_code,
        result=answer.result,
        may_be_taken=answer.may_be_taken,
        is_misdirected=verdict == "misdirected",
    )


def _never() -> bool:
    return False
