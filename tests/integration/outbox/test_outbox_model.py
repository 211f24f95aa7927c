"""The outbox on a real Redis beside a model of it in plain Python, driven by the same random steps.

The model knows what must happen and takes the moment of each call from Redis' reply. Only where Redis decides by its
own clock (the end of a TTL, the moment of a sweep) or by fairness (which of the waiting units a limit leaves out)
does it look, and then it checks that what it sees was allowed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis

from relay.outbox import (
    Accepted,
    Admission,
    Audit,
    Claim,
    Claims,
    GateVerdict,
    Outbox,
    Readmission,
    Replay,
    Restoration,
    Restore,
    Room,
    Settlement,
    Shred,
    Shredded,
    Unit,
    Verb,
    Verdict,
    keys,
    scripts,
)

# Everything that takes seconds or more in production takes a few steps here.
LEASE_MS = 40
OPEN_FIRST_MS, OPEN_MOST_MS = 30, 60
FAILURES_TO_OPEN = 4
RECHECK_MS = 25
REPLAY_MARGIN_MS = 20_000
HELD_BACK_MS = 5
SHORTENED = {
    "local OPEN_FIRST, OPEN_MOST = 5000, 45000": f"local OPEN_FIRST, OPEN_MOST = {OPEN_FIRST_MS}, {OPEN_MOST_MS}",
    "local FAILURES_TO_OPEN = 10": f"local FAILURES_TO_OPEN = {FAILURES_TO_OPEN}",
    "local RECHECK = 30000": f"local RECHECK = {RECHECK_MS}",
    "local MARGIN = 3600000": f"local MARGIN = {REPLAY_MARGIN_MS}",
    "local WINDOW = 64": "local WINDOW = 3",
    "local HELD_BACK = math.min(2000, math.max(50, redis.call('ZCARD', DUE) / 2))": f"local HELD_BACK = {HELD_BACK_MS}",
}
CAP_FIRST, CAP_MOST, BILLING_CAP = 8, 64, 1000
SUSPECT_CLAIMS = 2
# A TTL ends by a clock that Redis reads at another moment than the script's own.
TTL_SLACK_MS = 25

LANES = ("relay", "billing")
ACCOUNTS = {"acct_1": 5_000, "acct_2": 60_000, "acct_3": 1_000_000}  # and their quotas
ENDPOINTS = ("ep_good", "ep_flaky", "ep_bad", "ep_rare")
FINAL = {Verb.DONE: "delivered", Verb.DEAD: "dead", Verb.LOST: "lost"}
SEEDS = range(16)
STEPS = 120


@dataclass(slots=True, eq=False)
class Work:
    """One unit: where it is, and what a claim of it must say."""

    event: Event
    lane: str
    key: str
    due_ms: int
    end_ms: int
    place: str = "line"  # line, fly, suspects
    urgent: bool = False
    token: bytes = b""
    lease_end_ms: int = 0
    attempts: int = 0
    claims: int = 0
    is_replay: bool = False


@dataclass(slots=True, eq=False)
class Event:
    """One event while anything of it is left to do or to keep.

    `dead` has the attempts of the deliveries that keep its content, `replayed` those before each key's last replay.
    `erased` is the outcome of what is in flight when its content was shredded.
    """

    admission: Admission
    accepted_ms: int
    size: int
    work: list[Work] = field(default_factory=list)
    ends_ms: int | None = None
    dead: dict[str, int] = field(default_factory=dict)
    replayed: dict[str, int] = field(default_factory=dict)
    lost: bool = False
    restored_ms: int | None = None
    erased: bytes | None = None

    @property
    def relays(self) -> bool:
        return any(work.lane == "relay" for work in self.work)

    def content_left_ms(self, now_ms: int) -> int:
        kept_from_ms = self.accepted_ms if self.restored_ms is None else self.restored_ms
        return kept_from_ms + self.admission.retention_ms - now_ms


@dataclass(slots=True)
class Gate:
    cap: int = CAP_FIRST
    state: str = ""
    fails: int = 0
    opens: int = 0
    until_ms: int = 0


class Model:
    """The outbox as dicts and lists."""

    def __init__(self, client: redis.Redis) -> None:
        self._look = client
        self.events: dict[str, Event] = {}
        self.spent: set[str] = set()
        self.gates: dict[str, Gate] = {}
        self.totals = {lane: dict.fromkeys(("accepted", "delivered", "dead", "lost"), 0) for lane in LANES}
        self.outcomes: list[dict[bytes, bytes]] = []
        self.held_back_until_ms = dict.fromkeys(LANES, 0)
        # The attempts before each delivery's last restore, whatever was forgotten since.
        self.restored: dict[tuple[str, str], int] = {}

    def work(self, lane: str) -> list[Work]:
        return [work for event in self.events.values() for work in event.work if work.lane == lane]

    def find(self, lane: str, key: str, event_id: str) -> Work | None:
        event = self.events.get(event_id)
        return next((work for work in event.work if (work.lane, work.key) == (lane, key)), None) if event else None

    def held(self, account_id: str) -> int:
        return sum(event.size for event in self.events.values() if event.admission.account_id == account_id)

    def wants_service(self, lane: str) -> dict[str, int]:
        """When each key must be looked at: for its first unit if one more may go, or its first lease to run out."""
        wants = {}
        for key in {unit.key for unit in self.work(lane) if unit.place != "suspects"}:
            gate, mine = self._gate(lane, key), [unit for unit in self.work(lane) if unit.key == key]
            leases = [unit.lease_end_ms for unit in mine if unit.place == "fly"]
            waiting = [unit for unit in mine if unit.place == "line"]
            times = list(leases)
            if len(leases) < (1 if gate.state == "open" else gate.cap):
                times += [max(unit.due_ms, gate.until_ms) for unit in waiting]
            if len(leases) < CAP_FIRST:
                times += [0 for unit in waiting if unit.urgent and gate.state == "open"]
            wants[key] = min(times)
        return wants

    def audit(self, lane: str) -> dict[str, int]:
        work = self.work(lane)
        return {
            "waiting": sum(unit.place != "fly" for unit in work),
            "in_flight": sum(unit.place == "fly" for unit in work),
            "keys": len({unit.key for unit in work if unit.place != "suspects"}),
            **self.totals[lane],
        }

    # accept

    def accept(self, admissions: list[Admission], reply: Accepted) -> None:
        assert reply.verdicts == tuple(self._accept(item, reply.now_ms) for item in admissions)

    def _accept(self, item: Admission, now_ms: int) -> Verdict:
        if item.event_id in self.events or item.event_id in self.spent:
            return Verdict.REPEAT
        units = list(dict.fromkeys(item.units))
        endpoints = [unit.key for unit in units if unit.lane == "relay"]
        size = len(item.sealed) if endpoints else 0
        if size and self.held(item.account_id) + size > item.quota_bytes:
            return Verdict.QUOTA
        ids = {b"i": item.event_id.encode(), b"a": item.account_id.encode()}
        self.outcomes.append(ids | {b"f": item.facts, b"e": ",".join(endpoints).encode(), b"z": str(size).encode()})
        event = Event(item, now_ms, size, ends_ms=now_ms + item.window_ms if endpoints else None)
        end_ms = now_ms + item.window_ms
        event.work = [Work(event, unit.lane, unit.key, now_ms, end_ms) for unit in units]
        for unit in units:
            self.totals[unit.lane]["accepted"] += 1
        if units:
            self.events[item.event_id] = event
        else:
            self.spent.add(item.event_id)
        return Verdict.NEW

    # claim

    def claim(self, lane: str, reply: Claims, room: Room, *, alone: bool, content: bool) -> None:
        now_ms = reply.now_ms
        suspects = {id(unit) for unit in self.work(lane) if unit.place == "suspects"}
        claimed = [self._claimed(lane, claim) for claim in reply.units]
        assert len(set(map(id, claimed))) == len(claimed) <= room.units
        if alone and suspects:
            (unit,) = claimed
            assert id(unit) in suspects
        else:
            self._return_expired(lane, now_ms, claimed)
            self._claim_from_lines(lane, now_ms, claimed)
            self._check_room(claimed, room)
        for unit, claim in zip(claimed, reply.units, strict=True):
            self._check_claim(unit, claim, now_ms, content=content)
            unit.place, unit.token, unit.lease_end_ms = "fly", claim.token, now_ms + LEASE_MS
            unit.claims += 1
        if content and len(claimed) > 1:
            assert sum(unit.event.size for unit in claimed) <= room.size_bytes
        assert reply.drain == any(unit.place == "suspects" for unit in self.work(lane))
        if room.full_accounts or room.probation_units < 10**9:
            self.held_back_until_ms[lane] = now_ms + HELD_BACK_MS
        if not reply.more and now_ms >= self.held_back_until_ms[lane]:
            self._check_nothing_was_left_out(lane, now_ms)

    def _check_room(self, claimed: list[Work], room: Room) -> None:
        """Nothing of a full account, and of endpoints on probation no more than their share and one unit's bytes."""
        assert not {unit.event.admission.account_id for unit in claimed} & set(room.full_accounts)
        sizes = [unit.event.size for unit in claimed if self._is_on_probation(unit.lane, unit.key)]
        assert len(sizes) <= room.probation_units
        assert not sizes or sum(sizes) - max(sizes) <= room.probation_bytes

    def _is_on_probation(self, lane: str, key: str) -> bool:
        return lane == "relay" and self._gate(lane, key).cap <= CAP_FIRST

    def _claimed(self, lane: str, claim: Claim) -> Work:
        unit = self.find(lane, claim.key, claim.event_id)
        assert unit, f"claimed {claim.event_id} for {claim.key}, which is settled or was never accepted"
        return unit

    def _return_expired(self, lane: str, now_ms: int, claimed: list[Work]) -> None:
        for unit in self.work(lane):
            if unit.place != "fly" or unit.lease_end_ms > now_ms:
                continue
            returned = unit in claimed or self._look.zscore(keys.fly(lane, unit.key), unit.event.admission.event_id)
            if returned is None or returned is True:
                unit.place = "suspects" if unit.claims >= SUSPECT_CLAIMS else "line"
                unit.due_ms, unit.urgent = now_ms, False

    def _claim_from_lines(self, lane: str, now_ms: int, claimed: list[Work]) -> None:
        for key in {unit.key for unit in claimed}:
            gate, mine = self._gate(lane, key), [unit for unit in claimed if unit.key == key]
            flying = sum(unit.place == "fly" and unit.key == key for unit in self.work(lane))
            usual = [unit for unit in mine if not unit.urgent]
            assert all(unit.place == "line" and (unit.urgent or unit.due_ms <= now_ms) for unit in mine)
            if gate.state == "open":
                assert flying + len(mine) <= CAP_FIRST
                assert not usual or (gate.until_ms <= now_ms and flying == 0 and len(usual) == 1)
            else:
                assert flying + len(mine) <= gate.cap

    def _check_claim(self, unit: Work, claim: Claim, now_ms: int, *, content: bool) -> None:
        item = unit.event.admission
        assert claim._replace(sealed=None) == Claim(
            key=unit.key,
            event_id=item.event_id,
            token=str(now_ms + LEASE_MS).encode(),
            attempts=unit.attempts,
            claims=unit.claims + 1,
            accepted_ms=unit.event.accepted_ms,
            end_ms=unit.end_ms,
            gate=self._gate(unit.lane, unit.key).state,
            is_on_probation=self._is_on_probation(unit.lane, unit.key),
            account_id=item.account_id,
            facts=item.facts,
            sealed=None,
            is_replay=unit.is_replay,
            is_erased=unit.event.erased is not None,
        )
        left_ms = unit.event.content_left_ms(now_ms)
        if not content or not unit.event.size or left_ms < -TTL_SLACK_MS:
            assert claim.sealed is None
        elif claim.sealed is not None or left_ms > TTL_SLACK_MS:
            assert claim.sealed == item.sealed

    def _check_nothing_was_left_out(self, lane: str, now_ms: int) -> None:
        work = self.work(lane)
        assert not [unit for unit in work if unit.place == "fly" and unit.lease_end_ms <= now_ms]
        for key in {unit.key for unit in work}:
            gate, mine = self._gate(lane, key), [unit for unit in work if unit.key == key]
            flying = sum(unit.place == "fly" for unit in mine)
            waiting = [unit for unit in mine if unit.place == "line" and unit.due_ms <= now_ms]
            if gate.state == "open" and gate.until_ms > now_ms and flying < CAP_FIRST:
                assert not any(unit.urgent for unit in waiting)
            if gate.state != "open" or gate.until_ms <= now_ms:
                assert not waiting or flying >= (1 if gate.state == "open" else gate.cap)

    def _gate(self, lane: str, key: str) -> Gate:
        return self.gates.setdefault(key, Gate()) if lane == "relay" else Gate(cap=BILLING_CAP)

    # settle

    def settle(self, lane: str, settlements: list[Settlement], verdicts: list[str], now_ms: int) -> None:
        assert verdicts == [self._settle(lane, item, now_ms) for item in settlements]

    def _settle(self, lane: str, item: Settlement, now_ms: int) -> str:
        unit = self.find(lane, item.claim.key, item.claim.event_id)
        if not unit:
            return "stale"
        if item.verb is not Verb.DONE and (unit.place, unit.token) != ("fly", item.claim.token):
            return "stale"
        erased = unit.event.erased if lane == "relay" and item.verb not in FINAL else None
        if item.verb in FINAL or erased:
            self.totals[lane][FINAL.get(item.verb, "dead")] += 1
            self._end(unit, item._replace(verb=Verb.DEAD, shred=True) if erased else item, now_ms)
        else:
            unit.place, unit.due_ms, unit.urgent = "line", now_ms + item.delay_ms, False
            unit.attempts += item.attempted
            unit.claims = 0
        if item.outcome:
            self.outcomes.append({b"o": item.outcome})
        if erased:
            self._told_erased(unit, erased, attempts=unit.attempts + item.attempted)
        self._judge(unit.key, item.gate, now_ms)
        return "ok"

    def _end(self, unit: Work, item: Settlement, now_ms: int) -> None:
        event = unit.event
        event.work.remove(unit)
        event.lost |= item.verb is Verb.LOST
        if item.verb is Verb.DEAD and not item.shred and unit.lane == "relay":
            event.dead[unit.key] = unit.attempts + item.attempted
        last_delivery = unit.lane == "relay" and not event.relays
        if not last_delivery and event.work:
            return
        if event.size and event.dead and not event.lost and self._has_content(event, now_ms):
            if last_delivery:
                event.ends_ms = self._end_of_content(event, now_ms)
            return
        self._shred(event)
        if not event.work:
            self._forget(event, remember=not event.lost)

    def _has_content(self, event: Event, now_ms: int) -> bool:
        left_ms = event.content_left_ms(now_ms)
        if abs(left_ms) > TTL_SLACK_MS:
            return left_ms > 0
        # Too close to call. What is shredded or forgotten by now was gone.
        return self._look.zscore(keys.ENDS, event.admission.event_id) is not None

    def _end_of_content(self, event: Event, now_ms: int) -> int:
        score = self._look.zscore(keys.ENDS, event.admission.event_id)
        assert isinstance(score, float)
        assert score == pytest.approx(now_ms + event.content_left_ms(now_ms), rel=0, abs=TTL_SLACK_MS)
        return int(score)

    def _shred(self, event: Event) -> None:
        event.size, event.ends_ms = 0, None

    def _forget(self, event: Event, *, remember: bool) -> None:
        del self.events[event.admission.event_id]
        if remember:
            self.spent.add(event.admission.event_id)

    def _judge(self, key: str, verdict: GateVerdict, now_ms: int) -> None:
        if verdict is GateVerdict.NONE:
            return
        gate = self._gate("relay", key)
        if verdict is GateVerdict.OK:
            gate.cap, gate.fails = min(CAP_MOST, gate.cap * 2), 0
            if gate.state == "open":
                gate.state, gate.until_ms = "", 0
                for unit in self.work("relay"):
                    if unit.key == key and unit.place == "line":
                        unit.due_ms = min(unit.due_ms, now_ms)
        elif verdict is GateVerdict.GONE:
            gate.state, gate.until_ms = "gone", 0
        elif gate.state == "open":
            if now_ms >= gate.until_ms:
                gate.opens += 1
                gate.until_ms = now_ms + min(OPEN_MOST_MS, OPEN_FIRST_MS * 2 ** (gate.opens - 1))
        else:
            gate.fails, gate.cap = gate.fails + 1, max(1, gate.cap // 2)
            if gate.fails >= FAILURES_TO_OPEN and gate.state != "gone":
                gate.state, gate.opens, gate.until_ms = "open", 1, now_ms + OPEN_FIRST_MS

    # sweep

    def sweep(self, seen: int, *, before_ms: int, after_ms: int) -> None:
        over = [event for event in self.events.values() if event.ends_ms is not None and event.ends_ms <= after_ms]
        count = 0
        for event in over:
            assert event.ends_ms is not None
            score = self._look.zscore(keys.ENDS, event.admission.event_id)
            if score == event.ends_ms:
                assert event.ends_ms >= before_ms, "a sweep passed over an event whose end had come"
                continue
            count += 1
            if event.relays:
                assert score is not None
                self._make_urgent(event, before_ms=before_ms, after_ms=after_ms, next_ms=score)
                event.ends_ms = int(score)
            else:
                assert score is None
                self._shred(event)
                if not event.work:
                    self._forget(event, remember=False)
        assert seen == count

    def _make_urgent(self, event: Event, *, before_ms: int, after_ms: int, next_ms: float) -> None:
        """Each unit whose own end has come; the others wait for theirs."""
        units = [unit for unit in event.work if unit.lane == "relay"]
        earliest = [unit.end_ms if unit.end_ms > before_ms else before_ms + RECHECK_MS for unit in units]
        latest = [unit.end_ms if unit.end_ms > after_ms else after_ms + RECHECK_MS for unit in units]
        assert min(earliest) <= next_ms <= min(latest)
        for unit in units:
            if unit.place != "line" or unit.end_ms > after_ms:
                continue
            due_ms = self._look.zscore(keys.line("relay", unit.key), event.admission.event_id)
            if unit.end_ms <= before_ms or due_ms == 1:
                unit.due_ms, unit.urgent = 1, True

    # readmit

    def readmit(self, replays: list[Replay], answers: list[Readmission], now_ms: int, *, dry_run: bool) -> None:
        for item, answer in zip(replays, answers, strict=True):
            assert answer is self._answer(item, answer, now_ms)
            if answer is Readmission.READMITTED and not dry_run:
                self._readmit(item, now_ms)

    def _answer(self, item: Replay, said: Readmission, now_ms: int) -> Readmission:
        event = self.events.get(item.event_id)
        if self.find("relay", item.endpoint_id, item.event_id):
            return Readmission.PENDING
        if not event or event.lost or not event.size or event.content_left_ms(now_ms) < -TTL_SLACK_MS:
            return Readmission.GONE
        if said is Readmission.GONE and event.content_left_ms(now_ms) <= TTL_SLACK_MS:
            return Readmission.GONE
        if self._gate("relay", item.endpoint_id).state == "gone":
            return Readmission.CLOSED
        records = -1 if item.attempts is None else item.attempts
        if item.endpoint_id not in event.dead and records <= event.replayed.get(item.endpoint_id, -1):
            return Readmission.UNKNOWN
        return Readmission.READMITTED

    def _readmit(self, item: Replay, now_ms: int) -> None:
        event, key = self.events[item.event_id], item.endpoint_id
        attempts = max(event.dead.pop(key, 0), item.attempts or 0)
        end: Any = self._look.hget(keys.event(item.event_id), f"u:relay:{key}")
        left_ms = event.content_left_ms(now_ms)
        allowed_ms = min(item.window_ms, max(left_ms - REPLAY_MARGIN_MS, left_ms / 2))
        assert int(end) == pytest.approx(now_ms + allowed_ms, rel=0, abs=TTL_SLACK_MS)
        event.ends_ms = min(int(end), event.ends_ms) if event.relays and event.ends_ms else int(end)
        event.work.append(Work(event, "relay", key, now_ms, int(end), attempts=attempts, is_replay=True))
        event.replayed[key] = attempts
        self.totals["relay"]["accepted"] += 1
        self.outcomes.append({b"o": item.outcome, b"n": str(attempts).encode()})

    # restore

    def restore(self, item: Restore, answer: Restoration, now_ms: int) -> None:
        assert answer is self._restoration(item, answer, now_ms)
        if answer is Restoration.RESTORED:
            self._restore(item, now_ms)

    def facts(self, event_id: str) -> bytes:
        return self.events[event_id].admission.facts if event_id in self.events else b""

    def _restoration(self, item: Restore, said: Restoration, now_ms: int) -> Restoration:
        event_id, key = item.replay.event_id, item.replay.endpoint_id
        event = self.events.get(event_id)
        left_ms = event.content_left_ms(now_ms) if event and event.size and not event.lost else -TTL_SLACK_MS
        for is_so, verdict in (
            (self.find("relay", key, event_id), Restoration.PENDING),
            (event and event.erased, Restoration.ERASED),
            (left_ms > (-TTL_SLACK_MS if said is Restoration.KEPT else TTL_SLACK_MS), Restoration.KEPT),
            (self._gate("relay", key).state == "gone", Restoration.CLOSED),
        ):
            if is_so:
                return verdict
        before = max(event.replayed.get(key, -1) if event else -1, self.restored.get((event_id, key), -1))
        records = -1 if item.replay.attempts is None else item.replay.attempts
        if records <= before and not (event and key in event.dead):
            return Restoration.UNKNOWN
        held = self.held(item.account_id) - (event.size if event else 0)
        if held + len(item.sealed) > item.quota_bytes:
            return Restoration.QUOTA
        return Restoration.RESTORED if item.found == self.facts(event_id) else Restoration.CHANGED

    def _restore(self, item: Restore, now_ms: int) -> None:
        event_id, key = item.replay.event_id, item.replay.endpoint_id
        event = self.events.get(event_id)
        end_ms = now_ms + item.replay.window_ms
        if event is None:
            self.spent.discard(event_id)
            admission = Admission(event_id, item.account_id, b"", b"", 0, 0, 0, units=())
            event = self.events[event_id] = Event(admission, item.accepted_ms, 0)
        event.admission = event.admission._replace(facts=item.facts, sealed=item.sealed, retention_ms=item.retention_ms)
        event.size, event.restored_ms, event.lost = len(item.sealed), now_ms, False
        attempts = max(event.dead.pop(key, 0), item.replay.attempts or 0)
        event.ends_ms = min(end_ms, event.ends_ms) if event.relays and event.ends_ms else end_ms
        event.work.append(Work(event, "relay", key, now_ms, end_ms, attempts=attempts, is_replay=True))
        event.replayed[key] = self.restored[event_id, key] = attempts
        self.totals["relay"]["accepted"] += 1
        self.outcomes.append({b"o": item.replay.outcome, b"n": str(attempts).encode()})

    # shred

    def shred(self, items: list[Shred], replies: list[Shredded | None], now_ms: int) -> None:
        for item, reply in zip(items, replies, strict=True):
            assert reply is not None
            assert reply == self._shredded(item, reply, now_ms)

    def _shredded(self, item: Shred, said: Shredded, now_ms: int) -> Shredded:
        event = self.events.get(item.event_id)
        if event is None:
            return Shredded(had_content=False, ended=0, in_flight=0)
        left_ms = event.content_left_ms(now_ms) if event.size else -TTL_SLACK_MS
        had_content = said.had_content if abs(left_ms) < TTL_SLACK_MS else left_ms > 0
        waiting = [unit for unit in event.work if unit.lane == "relay" and unit.place != "fly"]
        for unit in waiting:
            event.work.remove(unit)
            self.totals["relay"]["dead"] += 1
            self._told_erased(unit, item.outcome, attempts=unit.attempts)
        flying = sum(unit.lane == "relay" for unit in event.work)
        event.size, event.lost = 0, False
        event.dead.clear()
        if flying:
            event.erased = item.outcome
        else:
            event.ends_ms = None
        if not event.work:
            self._forget(event, remember=True)
        return Shredded(had_content, len(waiting), flying)

    def _told_erased(self, unit: Work, outcome: bytes, *, attempts: int) -> None:
        self.outcomes.append({b"o": outcome, b"n": str(attempts).encode(), b"k": unit.key.encode()})

    def reopen(self, key: str) -> None:
        self.gates[key] = Gate()


class Telling(redis.Redis):
    """A client that remembers the last reply, whose first part is the moment of the script."""

    last_reply: Any = None

    def evalsha(self, *args: Any, **options: Any) -> Any:
        self.last_reply = super().evalsha(*args, **options)
        return self.last_reply


class Play:
    """Random steps on both. `claims` are held by processes that live, `stale` by some that crashed or are done."""

    def __init__(self, client: Telling, seed: int) -> None:
        self._client = client
        self._outbox = Outbox(client, lease_ms=LEASE_MS)
        self._random = random.Random(seed)
        self._claims: dict[str, list[Claim]] = {lane: [] for lane in LANES}
        self._stale: dict[str, list[Claim]] = {lane: [] for lane in LANES}
        self._numbers = 0
        self._accounts: dict[str, str] = {}
        self.model = Model(client)
        self.steps: list[str] = []

    def step(self) -> None:
        """One random step, and all that must hold after every one."""
        steps = {
            self._accept: 25,
            self._claim_at_random: 25,
            self._settle: 30,
            self._crash: 5,
            self._wait: 10,
            self._sweep: 8,
            self._readmit: 10,
            self._restore: 10,
            self._shred: 4,
            self._reopen: 2,
        }
        (step,) = self._random.choices(list(steps), list(steps.values()))
        step()
        self.check()

    def check(self) -> None:
        for lane in LANES:
            audit = self._outbox.audit(lane)
            assert audit.unaccounted == 0
            assert audit == Audit(late_ms=audit.late_ms, **self.model.audit(lane))
            due: dict[bytes, float] = dict(self._client.zrange(keys.due(lane), 0, -1, withscores=True))  # type: ignore[arg-type]
            now_ms = self._now_ms()
            for key, wanted_ms in self.model.wants_service(lane).items():
                assert due[key.encode()] <= max(wanted_ms, now_ms) + HELD_BACK_MS, f"{key} is forgotten"
        for account_id in ACCOUNTS:
            held = self._client.get(keys.held_bytes(account_id)) or b"0"
            assert held == str(self.model.held(account_id)).encode()

    def finish(self) -> None:
        """Let everything be settled, and the retention of what is kept end."""
        deadline = time.monotonic() + 60
        while any(self.model.work(lane) for lane in LANES):
            assert time.monotonic() < deadline, "units are left that no claim reaches"
            for lane in LANES:
                self._claim(lane, Room(500, 10**9), alone=True, content=False)
                done = [self._settlement(lane, claim, Verb.DONE) for claim in self._claims[lane]]
                self._settle_all(lane, done)
            self._wait(5)
            self.check()
        for event in self.model.events.values():
            self.steps.append(f"the end of {event.admission.event_id} comes")
            self._client.zadd(keys.ENDS, {event.admission.event_id: 1})
            event.ends_ms = 1
        self._sweep()
        self.check()

    def _accept(self) -> None:
        admissions = [self._admission() for _ in range(self._random.randint(1, 10))]
        reply = self._outbox.accept(admissions)
        self._log(f"{reply.now_ms} accept", *((item._replace(sealed=b""), len(item.sealed)) for item in admissions))
        self.model.accept(admissions, reply)
        verdicts = zip(admissions, reply.verdicts, strict=True)
        self._accounts |= {item.event_id: item.account_id for item, verdict in verdicts if verdict is Verdict.NEW}

    def _admission(self) -> Admission:
        known = self._random.random() < 0.2 and self._numbers
        self._numbers += not known
        event_id = f"evt_{self._random.randint(1, self._numbers) if known else self._numbers}"
        account_id = self._random.choice(list(ACCOUNTS))
        units = [Unit("relay", key) for key in self._random.choices(ENDPOINTS, k=self._random.randint(0, 3))]
        if self._random.random() < 0.5:
            units.append(Unit("billing", account_id))
        return Admission(
            event_id=event_id,
            account_id=account_id,
            facts=b"facts of " + event_id.encode(),
            sealed=self._random.randbytes(self._random.choice((0, 10, 700, 3_000))),
            retention_ms=self._random.choice((60_000, 60_000, 60_000, 90)),
            window_ms=self._random.choice((60_000, 60_000, 60_000, 60)),
            quota_bytes=ACCOUNTS[account_id],
            units=tuple(units),
        )

    def _claim_at_random(self) -> None:
        chance = self._random
        is_scarce = chance.random() < 0.3
        room = Room(
            units=chance.choice((1, 2, 3, 8, 50, 500)),
            size_bytes=chance.choice((1, 2_000, 10**9)),
            probation_units=chance.choice((0, 1, 3)) if is_scarce else 10**9,
            probation_bytes=chance.choice((0, 1, 2_000)) if is_scarce else 10**9,
            full_accounts=tuple(chance.sample(list(ACCOUNTS), chance.choice((0, 0, 1, 2)))),
        )
        lane = chance.choice(("relay", "relay", "billing"))
        self._claim(lane, room, alone=chance.random() < 0.3, content=chance.random() < 0.5)

    def _claim(self, lane: str, room: Room, *, alone: bool, content: bool) -> None:
        claims = self._outbox.claim(lane, room, alone=alone, content=content)
        units = [(unit.key, unit.event_id, unit.claims) for unit in claims.units]
        self._log(f"{claims.now_ms} claim {lane}", room, alone, content, units)
        self.model.claim(lane, claims, room, alone=alone, content=content)
        self._claims[lane] += claims.units

    def _settle(self) -> None:
        lane = self._random.choice(("relay", "relay", "billing"))
        mine, stale = self._claims[lane], self._stale[lane]
        self._random.shuffle(mine)
        settled = mine[: self._random.randint(0, 20)]
        settled += self._random.sample(stale, min(len(stale), self._random.choice((0, 0, 2))))
        self._settle_all(lane, [self._settlement(lane, claim) for claim in settled])

    def _settlement(self, lane: str, claim: Claim, verb: Verb | None = None) -> Settlement:
        failing = {"ep_bad": 0.9, "ep_flaky": 0.5}.get(claim.key, 0.2)
        if verb is None and self._random.random() < failing:
            (verb,) = self._random.choices((Verb.RETRY, Verb.RELEASE, Verb.DEAD, Verb.LOST), (60, 15, 18, 7))
        verb = verb or Verb.DONE
        gate = {Verb.DONE: GateVerdict.OK, Verb.RETRY: GateVerdict.BAD, Verb.DEAD: GateVerdict.BAD}.get(verb)
        if verb is Verb.DEAD and claim.key == "ep_rare":
            gate = GateVerdict.GONE
        return Settlement(
            claim,
            verb,
            delay_ms=self._random.choice((0, 0, 20, 60)),
            attempted=self._random.random() < 0.8,
            gate=gate if gate and lane == "relay" else GateVerdict.NONE,
            shred=self._random.random() < 0.3,
            outcome=self._random.choice((b"", self._random.randbytes(4))),
        )

    def _settle_all(self, lane: str, settlements: list[Settlement]) -> None:
        verdicts = self._outbox.settle(lane, settlements)
        now_ms = self._client.last_reply[0]
        said = [
            (item.claim.key, item.claim.event_id, str(item.verb), item.delay_ms, str(item.gate), item.shred, verdict)
            for item, verdict in zip(settlements, verdicts, strict=True)
        ]
        self._log(f"{now_ms} settle {lane}", *said)
        self.model.settle(lane, settlements, verdicts, now_ms)
        settled = {id(item.claim) for item in settlements}
        self._stale[lane] += [claim for claim in self._claims[lane] if id(claim) in settled]
        self._claims[lane] = [claim for claim in self._claims[lane] if id(claim) not in settled]

    def _crash(self) -> None:
        self._log("crash")
        for lane in LANES:
            self._stale[lane] += self._claims[lane]
            self._claims[lane] = []
        self._wait(LEASE_MS)

    def _wait(self, ms: int = 0) -> None:
        ms = ms or self._random.choice((2, 10, 25, 50))
        self._log(f"wait {ms} ms")
        time.sleep(ms / 1000)

    def _sweep(self) -> None:
        before_ms = self._now_ms()
        seen = self._outbox.sweep()
        after_ms = self._now_ms()
        self._log(f"{before_ms}-{after_ms} sweep saw {seen}")
        self.model.sweep(seen, before_ms=before_ms, after_ms=after_ms)

    def _readmit(self) -> None:
        known = [(event_id, key) for event_id, event in self.model.events.items() for key in event.dead]
        units = self._random.sample(known, min(len(known), self._random.randint(0, 8)))
        event_ids = [*self.model.events, *self.model.spent, "evt_unheard"]
        units += [(self._random.choice(event_ids), self._random.choice(ENDPOINTS)) for _ in range(2)]
        replays = [
            Replay(
                endpoint_id=key,
                event_id=event_id,
                attempts=self._random.choice((None, 0, 1, 3, 6)),
                window_ms=self._random.choice((60, 10_000, 60_000)),
                outcome=self._random.randbytes(4),
            )
            for event_id, key in units
        ]
        dry_run = self._random.random() < 0.2
        answers = self._outbox.readmit(replays, dry_run=dry_run)
        now_ms = self._client.last_reply[0]
        said = [(*item[:4], str(answer)) for item, answer in zip(replays, answers, strict=True)]
        self._log(f"{now_ms} readmit{' dry' * dry_run}", *said)
        self.model.readmit(replays, answers, now_ms, dry_run=dry_run)

    def _restore(self) -> None:
        chance = self._random
        for event_id in chance.choices([*self.model.events, *self.model.spent, *self._accounts, "evt_unheard"], k=3):
            account_id = self._accounts.setdefault(event_id, chance.choice(list(ACCOUNTS)))
            found = self._outbox.facts([event_id])[0]
            assert found == self.model.facts(event_id)
            item = Restore(
                replay=Replay(
                    endpoint_id=chance.choice(ENDPOINTS),
                    event_id=event_id,
                    attempts=chance.choice((None, 0, 1, 3, 6, 9)),
                    window_ms=chance.choice((60, 10_000, 60_000)),
                    outcome=chance.randbytes(4),
                ),
                account_id=account_id,
                accepted_ms=self._now_ms() - chance.randrange(10_000),
                retention_ms=chance.choice((60_000, 60_000, 90)),
                quota_bytes=ACCOUNTS[account_id],
                found=chance.choice((found, found, found, b"other facts")),
                facts=b"restored facts of " + event_id.encode(),
                sealed=chance.randbytes(chance.choice((10, 700))),
            )
            answer = self._outbox.restore(item)
            now_ms = self._client.last_reply[0]
            self._log(f"{now_ms} restore {answer}", item._replace(sealed=b""), len(item.sealed))
            self.model.restore(item, answer, now_ms)

    def _shred(self) -> None:
        ids = self._random.choices([*self.model.events, *self.model.spent, "evt_unheard"], k=self._random.randint(1, 3))
        items = [Shred(event_id, self._random.randbytes(4)) for event_id in ids]
        replies = self._outbox.shred(items)
        now_ms = self._client.last_reply[0]
        self._log(f"{now_ms} shred", *zip(items, replies, strict=True))
        self.model.shred(items, replies, now_ms)

    def _reopen(self) -> None:
        key = self._random.choice(ENDPOINTS)
        self._outbox.reopen("relay", key)
        self._log(f"reopen {key}")
        self.model.reopen(key)

    def _now_ms(self) -> int:
        seconds, microseconds = self._client.time()
        return seconds * 1000 + microseconds // 1000

    def _log(self, what: str, *details: object) -> None:
        self.steps.append("\n    ".join([what, *map(repr, details)]))


@pytest.fixture
def client(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Telling]:
    """A client of an empty Redis, and scripts with short pauses."""
    sources = {name: source.decode() for name, source in scripts._SOURCES.items()}
    for before, after in SHORTENED.items():
        assert any(before in source for source in sources.values())
        sources = {name: source.replace(before, after) for name, source in sources.items()}
    with Telling.from_url(redis_url) as client:
        for name, source in sources.items():
            monkeypatch.setitem(scripts._SOURCES, name, source.encode())
            monkeypatch.setitem(scripts._DIGESTS, name, client.script_load(source))
        yield client


@pytest.mark.parametrize("seed", SEEDS)
def test_the_outbox_does_what_its_model_does(client: Telling, seed: int) -> None:
    """Whatever is accepted, claimed, settled, forgotten and swept, nothing is lost, invented, doubled or left over."""
    play = Play(client, seed)
    try:
        for _ in range(STEPS):
            play.step()
        play.finish()
        check_nothing_is_left_behind(client, play.model)
    except AssertionError as error:
        error.add_note("\n".join([f"seed {seed}", *play.steps]))
        raise


def check_nothing_is_left_behind(client: redis.Redis, model: Model) -> None:
    """Only markers and notes of restores (which end), totals, gates, bells, empty counters and outcomes may stay."""
    assert not model.events
    lasting = ("gate:", "totals:", "bytes:", "ring:")
    markers = set()
    for name in client.scan_iter(count=1000):
        kind, _, event_id = name.decode().removeprefix(keys.PREFIX).partition(":")
        if kind == "event":
            assert client.get(name) == b"1"
            assert 0 < client.pttl(name) <= 24 * 3_600_000
            markers.add(event_id)
        elif kind == "again":
            assert 0 < client.pttl(name) <= 24 * 3_600_000
        else:
            assert f"{kind}:" in lasting or name.decode() == keys.OUTCOMES, f"{name!r} is left behind"
    assert markers == model.spent
    assert [fields for _, fields in client.xrange(keys.OUTCOMES) or ()] == model.outcomes
