"""What goes into the outbox and what comes out of it. Content appears here only sealed."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

# Claimed this often without a settle, a unit has probably killed its process each time: it is set aside.
POISON_CLAIMS: Final = 5
# And from this on it is claimed alone, as SUSPECT_CLAIMS in claim.lua says too.
SUSPECT_CLAIMS: Final = 2


class Unit(NamedTuple):
    """One piece of work of an event: a lane and its key (relay: an endpoint; billing and recordings: an account)."""

    lane: str
    key: str


class Admission(NamedTuple):
    """One verified event on its way into the outbox.

    `sealed` is empty when nobody is to read it. `config_version` is the version of the account's configuration
    that it was routed by; 0 is not checked. `twin` is the id that the same would have if it had come another way: if
    that was accepted, this is a repeat.
    """

    event_id: str
    account_id: str
    facts: bytes
    sealed: bytes
    retention_ms: int
    window_ms: int
    quota_bytes: int
    units: tuple[Unit, ...]
    config_version: int = 0
    twin: str = ""


class Verdict(StrEnum):
    """What accept made of one event."""

    NEW = "new"
    REPEAT = "repeat"
    QUOTA = "quota"
    STALE = "stale"
    ERROR = "error"


class Accepted(NamedTuple):
    """The answer of one accept call: a verdict per event, and the lanes whose bell should be rung.

    `half_full` names accounts that have just come to hold half of their quota.
    """

    now_ms: int
    config_version: int
    rings: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    half_full: tuple[str, ...] = ()


class Room(NamedTuple):
    """How much a claim may lease: units, and bytes of sealed content.

    Keys on probation share `probation_units` and `probation_bytes` of it; units of `full_accounts` are left alone. One
    unit may pass a limit of bytes, else a large one would never go.
    """

    units: int
    size_bytes: int = 1 << 31
    probation_units: int = 1 << 31
    probation_bytes: int = 1 << 31
    full_accounts: tuple[str, ...] = ()


class Claim(NamedTuple):
    """A leased unit. `token` proves the lease; `attempts` were made before, `claims` since the last settle.

    `end_ms` is the event's end, or a replay's own. `is_on_probation`: its endpoint is new or has failed lately.
    `is_erased`: its content was shredded on request, while it was in flight.
    """

    key: str
    event_id: str
    token: bytes
    attempts: int
    claims: int
    accepted_ms: int
    end_ms: int
    gate: str
    facts: bytes
    sealed: bytes | None
    is_replay: bool = False
    is_on_probation: bool = False
    account_id: str = ""
    is_erased: bool = False

    @property
    def is_suspect(self) -> bool:
        """Whether it was claimed more than twice without a settle; see claim.lua."""
        return self.claims > SUSPECT_CLAIMS

    @property
    def is_poison(self) -> bool:
        """Whether it has taken its process down too often to be tried again."""
        return self.claims > POISON_CLAIMS


class Claims(NamedTuple):
    """The answer of one claim call. `drain`: a suspect waits to be claimed alone."""

    now_ms: int
    config_version: int
    more: bool
    drain: bool
    units: tuple[Claim, ...]


class Verb(StrEnum):
    """What a settle does with a unit; see settle.lua."""

    DONE = "done"
    RETRY = "retry"
    RELEASE = "release"
    DEAD = "dead"
    LOST = "lost"


class GateVerdict(StrEnum):
    """What an attempt says about its endpoint."""

    OK = "ok"
    BAD = "bad"
    GONE = "gone"
    NONE = "none"


class Settlement(NamedTuple):
    """What became of one claimed unit. `outcome` is the encoded record for Postgres; empty means none."""

    claim: Claim
    verb: Verb
    delay_ms: int = 0
    attempted: bool = False
    gate: GateVerdict = GateVerdict.NONE
    shred: bool = False
    outcome: bytes = b""


class Replay(NamedTuple):
    """An ended delivery that is to go again.

    `attempts` is how many the caller's records know of; None unless they say that it has ended. `window_ms` is how long
    its endpoint lets an event be tried. `outcome` is the encoded record for Postgres; the script puts the number of
    attempts right.
    """

    endpoint_id: str
    event_id: str
    attempts: int | None
    window_ms: int
    outcome: bytes


class Readmission(StrEnum):
    """What readmit made of one replay; see readmit.lua."""

    READMITTED = "readmitted"
    PENDING = "pending"
    GONE = "gone"
    CLOSED = "closed"
    UNKNOWN = "unknown"
    ERROR = "error"


class Restore(NamedTuple):
    """A delivery whose content is gone, with content that was fetched again.

    `found` are the facts that `Outbox.facts` gave, empty for none; `facts` are
    those to keep. Content is kept for `retention_ms`, and counts against the account's quota.
    """

    replay: Replay
    account_id: str
    accepted_ms: int
    retention_ms: int
    quota_bytes: int
    found: bytes
    facts: bytes
    sealed: bytes


class Restoration(StrEnum):
    """What restore made of it; see restore.lua."""

    RESTORED = "restored"
    PENDING = "pending"
    KEPT = "kept"
    CLOSED = "closed"
    UNKNOWN = "unknown"
    QUOTA = "quota"
    ERASED = "erased"
    CHANGED = "changed"


class Shred(NamedTuple):
    """An event whose content is to go. `outcome` is the encoded record of a delivery that ends for it."""

    event_id: str
    outcome: bytes


class Shredded(NamedTuple):
    """What shred made of an event: whether its content was here, deliveries that it ended, and those in flight."""

    had_content: bool
    ended: int
    in_flight: int


class Backlog(NamedTuple):
    """What waits for one endpoint, and how its gate stands.

    `gate` is closed (requests flow), open (they wait until `until_ms`, then one probes) or gone. `late_ms` is how late
    the oldest due unit is; `failures` came in a row; `cap` requests may be in flight.
    """

    endpoint_id: str
    account_id: str
    gate: str
    waiting: int
    in_flight: int
    late_ms: int
    until_ms: int
    failures: int
    cap: int


class Worst(NamedTuple):
    """The endpoints that are furthest behind, worst first, of those looked at, of all that something waits for."""

    now_ms: int
    endpoints: int
    looked_at: int
    backlogs: tuple[Backlog, ...]


class Audit(NamedTuple):
    """Where every accepted unit of a lane is. `unaccounted` must be 0: anything else is a lost or invented unit.

    A unit that was readmitted counts as accepted once more.
    """

    waiting: int
    in_flight: int
    late_ms: int
    accepted: int
    delivered: int
    dead: int
    lost: int
    keys: int

    @property
    def unaccounted(self) -> int:
        return self.accepted - self.delivered - self.dead - self.lost - self.waiting - self.in_flight
