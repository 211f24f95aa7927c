"""A courier in a thread on a real Redis, with its configuration in memory."""

from __future__ import annotations

import base64
import ipaddress
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import msgspec
import redis

from relay.calls import CallEvent, Facts
from relay.delivery.courier import Courier
from relay.delivery.dispatch import Dispatcher
from relay.delivery.load import Load
from relay.delivery.resolver import Lookup, system_lookup
from relay.delivery.transport import Transport
from relay.directory import AccountView, Directory
from relay.errors import NotFound, Unavailable
from relay.outbox import Admission, Audit, Claims, Outbox, Room, Settlement, Unit, Verdict, keys
from relay.outbox.outcomes import AttemptOutcome, OutcomeReader, StreamEntry, encode_facts
from relay.queues import RELAY
from relay.sealing import KeyRing, seal_event
from relay.settings import Network
from relay.store.snapshot import AccountConfig, EndpointConfig
from tests.receiver import Post, Receiver, Reply
from tests.waiting import eventually

ACCOUNT: Final = "acc_1"
RING: Final = KeyRing("a passphrase for tests only, long enough to be taken")
SIGNING_SECRET: Final = "whsec_" + base64.b64encode(b"0" * 32).decode()
BODY: Final = b'{"event":"call_analyzed","call":{"call_id":"c","transcript":"hello"}}'
HOUR_MS: Final = 3_600_000
_LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"),)
_numbers = itertools.count(1)


class InMemoryDirectory(Directory):
    """One account with some endpoints, as the mirror would give it."""

    def __init__(self) -> None:
        self.endpoints: dict[str, EndpointConfig] = {}

    def saw(self, config_version: int) -> None:
        """What is in memory is always the newest."""

    def account(self, account_id: str) -> AccountView:
        if account_id != ACCOUNT:
            raise NotFound
        config = AccountConfig(
            account_id=ACCOUNT,
            version=1,
            quota_bytes=None,
            key_hashes=(),
            sources=(),
            endpoints=tuple(self.endpoints.values()),
            templates=(),
        )
        return AccountView(config)


class WatchedOutbox(Outbox):
    """Counts how often Redis did not answer a settle."""

    unanswered = 0

    def settle(self, lane: str, settlements: Sequence[Settlement]) -> list[str]:
        with self._counted():
            return super().settle(lane, settlements)

    def settle_and_claim(
        self, lane: str, settlements: Sequence[Settlement], room: Room, *, alone: bool
    ) -> tuple[list[str], Claims]:
        with self._counted():
            return super().settle_and_claim(lane, settlements, room, alone=alone)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except Unavailable:
            self.unanswered += 1
            raise


class HeldReceiver(Receiver):
    """A receiver that answers no POST before it is let."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        super().__init__()

    def take(self, post: Post) -> Reply:
        reply = super().take(post)
        self.may_answer.wait(100)
        return reply

    def close(self) -> None:
        self.may_answer.set()
        super().close()


class Relay:
    """A courier in a thread, and what a test asks of its outbox."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        lease_ms: int = 60_000,
        allow: Sequence[Network] = _LOOPBACK,
        lookup: Lookup = system_lookup,
        load: Load | None = None,
        on_more: Callable[[], None] = lambda: None,
    ) -> None:
        self.client = client
        self.outbox = WatchedOutbox(client, lease_ms=lease_ms)
        self.directory = InMemoryDirectory()
        self.settled = threading.Event()
        self.idle = threading.Event()
        self.courier = Courier(
            self.outbox,
            self.directory,
            Dispatcher(self.directory, RING, retention=timedelta(hours=96)),
            Transport(allow=allow, user_agent="Switchhook/test", lookup=lookup),
            lease_seconds=lease_ms / 1000,
            load=load,
            on_settled=self.settled.set,
            on_more=on_more,
            on_idle=self.idle.set,
        )
        self._reader = OutcomeReader(client, consumer="test")
        self._outcomes: list[AttemptOutcome] = []
        self._thread = threading.Thread(target=self.courier.run, name="courier")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop the courier and wait for its end, within the grace that platforms give."""
        self.courier.stop()
        if self._thread.is_alive():
            self._thread.join(30)
        assert not self._thread.is_alive()

    def close(self) -> None:
        if self._thread.ident is None:
            self.start()
        self.stop()

    def endpoint(self, receiver: Receiver, **changes: Any) -> str:
        """A new endpoint at the receiver; its id."""
        return self.endpoint_at(receiver.url, **changes)

    def endpoint_at(self, url: str, **changes: Any) -> str:
        """A new endpoint at any URL; its id."""
        endpoint_id = f"ep_{next(_numbers)}"
        whole = EndpointConfig(
            id=endpoint_id,
            url=url,
            headers={},
            webhook_secret="hush",
            signing_secrets=(SIGNING_SECRET,),
            signing="standard",
            filters=("*",),
            deadline_seconds=20,
            retention_hours=None,
            template_id=None,
            source_id=None,
            state="active",
        )
        self.directory.endpoints[endpoint_id] = msgspec.structs.replace(whole, **changes)
        return endpoint_id

    def change(self, endpoint_id: str, **changes: Any) -> None:
        self.directory.endpoints[endpoint_id] = msgspec.structs.replace(
            self.directory.endpoints[endpoint_id], **changes
        )

    def accept(
        self, endpoint_id: str, *, provider: str = "retell", event_id: str | None = None, rings: bool = True
    ) -> str:
        """Commit an event for an endpoint and ring the bell; its id."""
        event_id = event_id or f"evt_{next(_numbers)}"
        call = CallEvent(
            provider=provider, kind="call_analyzed", event_class="complete", conversation_id="c", dedupe=("c",)
        )
        facts = Facts(
            event_id=event_id,
            account_id=ACCOUNT,
            call=call,
            session_id=7,
            accepted_at_ms=int(time.time() * 1000),
        )
        admission = Admission(
            event_id=event_id,
            account_id=ACCOUNT,
            facts=encode_facts(facts),
            sealed=seal_event(RING, BODY, event_id=event_id, account_id=ACCOUNT),
            retention_ms=96 * HOUR_MS,
            window_ms=95 * HOUR_MS,
            quota_bytes=10**9,
            units=(Unit(RELAY, endpoint_id),),
        )
        assert self.outbox.accept([admission]).verdicts == (Verdict.NEW,)
        if rings:
            self.courier.wake()
        return event_id

    def make_due(self, endpoint_id: str, event_id: str) -> None:
        """Have a waiting unit's time come now."""
        now_ms = self.now_ms()
        self.client.zadd(keys.line(RELAY, endpoint_id), {event_id: now_ms}, xx=True)
        self.client.zadd(keys.due(RELAY), {endpoint_id: now_ms})
        self.courier.wake()

    def due_in_ms(self, endpoint_id: str, event_id: str) -> float | None:
        """How far ahead a waiting unit is due; None if it does not wait."""
        score: Any = self.client.zscore(keys.line(RELAY, endpoint_id), event_id)
        return None if score is None else float(score) - self.now_ms()

    def now_ms(self) -> int:
        seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def outcomes(self, event_id: str) -> list[AttemptOutcome]:
        """What was told of an event so far."""
        for entry in self._reader.read(most=1_000):
            assert isinstance(entry, StreamEntry)
            if isinstance(entry.outcome, AttemptOutcome):
                self._outcomes.append(entry.outcome)
        return [outcome for outcome in self._outcomes if outcome.event_id == event_id]

    def await_outcome(self, event_id: str, *, number: int = 1) -> AttemptOutcome:
        """Wait until so much was told of an event, and return the last."""

        def told() -> list[AttemptOutcome]:
            outcomes = self.outcomes(event_id)
            return outcomes if len(outcomes) >= number else []

        return eventually(told, within_seconds=15, what=f"outcome {number}")[-1]

    def audit(self) -> Audit:
        audit = self.outbox.audit(RELAY)
        assert audit.unaccounted == 0
        return audit

    def await_settled(self, **counts: int) -> None:
        """Wait until the audit has these counts and nothing is left to do."""

        def reached() -> bool:
            audit = self.audit()
            got = {name: getattr(audit, name) for name in counts}
            return got == counts and audit.waiting == audit.in_flight == 0

        eventually(reached, within_seconds=15, what=f"an outbox with {counts}")
