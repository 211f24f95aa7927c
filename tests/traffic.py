"""A provider under way: ends of calls sent to a source at a steady rate, and the comparison of the three ledgers.

The ledgers are what was answered 2xx, what the receiver saw, and what was charged.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import requests

from relay.store.charges import Charge
from tests.customers import Customer, Inlet
from tests.payloads import retell_event, retell_headers
from tests.receiver import Receiver
from tests.stack import Stack
from tests.waiting import eventually

_SENDERS: Final = 16


@dataclass(frozen=True, slots=True)
class Accepted:
    """The end of a call that was answered 2xx: the hash of its bytes, and the seconds it must be billed."""

    event_id: str
    call_id: str
    sha256: str
    seconds: int


class Traffic:
    """Sends `call_ended` of numbered calls to one source of a customer who has one receiver.

    `said_bytes` makes the bodies longer by so much.
    """

    def __init__(self, stack: Stack, customer: Customer, receiver: Receiver, *, said_bytes: int = 0) -> None:
        self._stack = stack
        self._customer = customer
        self._receiver = receiver
        self._more = " blah" * (said_bytes // 5)
        self._source: Inlet = customer.source("retell", relay_url=receiver.url)
        self._lock = threading.Lock()
        self._accepted: dict[str, Accepted] = {}
        self._refused: list[int] = []

    @property
    def endpoint_id(self) -> str:
        """The endpoint of its source."""
        assert self._source.endpoint is not None
        return self._source.endpoint.id

    @property
    def accepted(self) -> list[Accepted]:
        """What was answered 2xx so far, each event once."""
        with self._lock:
            return list(self._accepted.values())

    @property
    def refused(self) -> list[int]:
        """The numbers of the calls whose webhook was not answered 2xx: a provider sends those again."""
        with self._lock:
            return list(self._refused)

    def send(self, number: int) -> int | None:
        """Send the end of one call; the status of the answer, None if there was none."""
        seconds = 30 + number % 90
        body = retell_event(
            "call_ended", f"call_{number}", seconds=seconds, said=f"Said in call {number}. 👋{self._more}"
        )
        try:
            answer = self._stack.post(self._source.url, body, retell_headers(body, self._source.secret))
        except requests.ConnectionError:
            status = None
        else:
            status = answer.status_code
        with self._lock:
            if status == 200:
                event_id = answer.json()["id"]
                digest = hashlib.sha256(body).hexdigest()
                self._accepted[event_id] = Accepted(event_id, f"call_{number}", digest, seconds)
            else:
                self._refused.append(number)
        return status

    def send_all(self, numbers: Collection[int]) -> list[int | None]:
        """Send all of these at once; the statuses in order."""
        with ThreadPoolExecutor(len(numbers)) as pool:
            return list(pool.map(self.send, numbers))

    @contextmanager
    def steady(self, numbers: Iterable[int], *, per_second: float) -> Iterator[None]:
        """Send these calls at a steady rate while the block runs; at its end, wait until all are answered."""
        with ThreadPoolExecutor(_SENDERS) as pool:
            sending: list[Future[int | None]] = []
            pacer = threading.Thread(target=self._pace, args=(pool, numbers, per_second, sending), name="pacer")
            pacer.start()
            try:
                yield
            finally:
                pacer.join()
        for one in sending:
            one.result()  # whatever else than a refusal came of it

    @contextmanager
    def flowing(self, *, per_second: float) -> Iterator[list[int]]:
        """Send calls at a steady rate until the block ends, and wait until all are answered; those that were sent."""
        sent: list[int] = []
        is_done = threading.Event()

        def calls() -> Iterator[int]:
            while not is_done.is_set():
                sent.append(len(sent))
                yield sent[-1]

        with self.steady(calls(), per_second=per_second):
            try:
                yield sent
            finally:
                is_done.set()

    def await_accepted(self, count: int) -> None:
        """Wait until so many were accepted."""
        eventually(lambda: len(self.accepted) >= count, within_seconds=60, what=f"{count} accepted")

    def await_refused(self) -> None:
        """Wait until one more is refused."""
        before = len(self.refused)
        eventually(lambda: len(self.refused) > before, within_seconds=10, what="a refusal")

    def send_refused_again(self) -> None:
        """Send what was refused until all of it is accepted, as a provider that retries does."""
        with self._lock:
            again, self._refused = self._refused, []
        for number in again:
            assert self.send(number) == 200

    def assert_ledgers_agree(self, *, within_seconds: float = 15.0, may_repeat: Iterable[str] = ()) -> None:
        """Everything accepted was delivered whole, once, and charged once, and nothing else was.

        An event may have come once more for each time that `may_repeat` names it; a repeat has the same bytes.
        """
        self._stack.await_settled(self._customer, within_seconds=within_seconds)
        accepted = self.accepted
        sent = {one.event_id: one.sha256 for one in accepted}
        seen: dict[str, list[str]] = {}
        for post in self._receiver.posts:
            seen.setdefault(post.event_id, []).append(post.sha256)
        assert seen.keys() == sent.keys(), (
            f"{len(sent.keys() - seen.keys())} lost, {len(seen.keys() - sent.keys())} new"
        )
        altered = [event_id for event_id, hashes in seen.items() if set(hashes) != {sent[event_id]}]
        assert not altered, f"{len(altered)} altered"
        repeats = Counter({event_id: len(hashes) - 1 for event_id, hashes in seen.items()})
        unexplained = repeats - Counter(may_repeat)
        assert not unexplained, f"{unexplained.total()} repeats that nothing explains, of {repeats.total()}"
        due = {(one.call_id, "charge", one.seconds) for one in accepted}
        charged = [(row.conversation_id, row.kind, row.billed_seconds) for row in self._charges()]
        assert len(charged) == len(due), f"{len(charged)} charges for {len(due)} calls"
        assert set(charged) == due, "some call was charged otherwise than it lasted"
        fates = {delivery.status for delivery in self._stack.deliveries(self._customer)}
        assert fates == {"delivered"}, f"deliveries ended {fates}"
        assert self._stack.scrape()["switchhook_unaccounted_events"] == 0, "some unit is unaccounted for"

    def _charges(self) -> Collection[Charge]:
        return self._stack.charges(self._customer)

    def _pace(
        self, pool: ThreadPoolExecutor, numbers: Iterable[int], per_second: float, sending: list[Future[int | None]]
    ) -> None:
        began = time.monotonic()
        for place, number in enumerate(numbers):
            time.sleep(max(0.0, began + place / per_second - time.monotonic()))
            sending.append(pool.submit(self.send, number))
