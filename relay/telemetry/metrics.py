"""Every metric, and helpers to record them. No label is unbounded: no account, endpoint or URL."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

disable_created_metrics()  # type: ignore[no-untyped-call]

# What this process counts: its own work, and what it takes of the machine.
REGISTRY: Final = CollectorRegistry(auto_describe=False)
# What is counted once for the whole system, by the process that answers a scrape.
SYSTEM: Final = CollectorRegistry(auto_describe=False)
ProcessCollector(namespace="switchhook_relay", registry=REGISTRY)
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# An accept is one script call with an fsync: a millisecond when idle, a second when the disk is in trouble.
_ACCEPT_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
# An attempt ends by its deadline of at most 20 s.
_ATTEMPT_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0)
# From accepted to delivered: milliseconds when all is well, hours over an outage.
_LAG_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)

_ingress_requests = Counter(
    "switchhook_relay_ingress_requests",
    "Webhooks that arrived, by provider and what became of them.",
    ("provider", "outcome"),
    registry=REGISTRY,
)
_api_requests = Counter(
    "switchhook_relay_api_requests",
    "Requests of the control API, by whose paths they came on and the status of the answer.",
    ("family", "status"),
    registry=REGISTRY,
)
_too_large = Counter(
    "switchhook_relay_bodies_refused",
    "Webhooks refused because their body was too large: content that is lost unless the limit is raised.",
    ("provider",),
    registry=REGISTRY,
)
_accept = Histogram(
    "switchhook_relay_accept_seconds",
    "Time from reading a webhook to its being committed.",
    buckets=_ACCEPT_BUCKETS,
    registry=REGISTRY,
)
_contexts = Counter(
    "switchhook_relay_context_requests",
    "Agents' requests for context, by what became of them.",
    ("outcome",),
    registry=REGISTRY,
)
_context_seconds = Histogram(
    "switchhook_relay_context_seconds",
    "Time that customers' servers took to answer requests for context.",
    buckets=_ATTEMPT_BUCKETS,
    registry=REGISTRY,
)
_attempts = Counter(
    "switchhook_relay_delivery_attempts", "Attempts to deliver, by outcome class.", ("outcome",), registry=REGISTRY
)
_attempt_seconds = Histogram(
    "switchhook_relay_delivery_attempt_seconds",
    "Duration of delivery attempts.",
    buckets=_ATTEMPT_BUCKETS,
    registry=REGISTRY,
)
_lag = Histogram(
    "switchhook_relay_delivery_lag_seconds",
    "Time from accepted to delivered.",
    buckets=_LAG_BUCKETS,
    registry=REGISTRY,
)
_waiting = Gauge(
    "switchhook_relay_outbox_waiting", "Units waiting or in flight in the outbox.", ("lane",), registry=SYSTEM
)
_oldest = Gauge(
    "switchhook_relay_outbox_oldest_age_seconds",
    "How late the outbox's oldest due unit is.",
    ("lane",),
    registry=SYSTEM,
)
_units = Gauge(
    "switchhook_relay_units",
    "Units since the outbox began, by what became of them.",
    ("lane", "state"),
    registry=SYSTEM,
)
_unaccounted = Gauge(
    "switchhook_unaccounted_events",
    "Accepted units that are neither settled nor waiting. Anything but 0 is a lost or invented unit.",
    registry=SYSTEM,
)
_disabled = Gauge("switchhook_relay_endpoints_disabled", "Endpoints that take no deliveries.", registry=SYSTEM)
_unsynced = Gauge(
    "switchhook_relay_agents_unsynced",
    "Voice agents that are not yet as their templates want them at the provider, by status.",
    ("status",),
    registry=SYSTEM,
)
_redis_up = Gauge(
    "switchhook_relay_redis_up",
    "Whether Redis answered this scrape; if not, it shows only the process that answers it.",
    registry=SYSTEM,
)
_processes = Gauge(
    "switchhook_relay_processes", "Processes that published samples just now, by kind.", ("kind",), registry=SYSTEM
)
_rated = Counter(
    "switchhook_billing_rated_seconds", "Seconds of calls that were rated.", ("provider",), registry=REGISTRY
)
_charges = Counter("switchhook_billing_charges", "Charges written to the ledger.", ("currency",), registry=REGISTRY)
_mismatches = Counter(
    "switchhook_billing_duration_mismatches",
    "Calls whose duration and end - start are more than a second apart, by provider.",
    ("provider",),
    registry=REGISTRY,
)
_unrated = Counter(
    "switchhook_billing_unrated", "Sessions that could not be rated, by reason.", ("reason",), registry=REGISTRY
)
_unrated_sessions = Gauge(
    "switchhook_billing_unrated_sessions",
    "Sessions that are not charged because something is missing, by reason.",
    ("reason",),
    registry=SYSTEM,
)
_violations = Gauge(
    "switchhook_billing_invariant_violations",
    "What the last check found that breaks an invariant of billing. Anything but 0 is a wrong bill or usage.",
    ("invariant", "check"),
    registry=SYSTEM,
)
_checked_at = Gauge(
    "switchhook_billing_checked_timestamp_seconds",
    "When the last check of billing's invariants ended.",
    ("check",),
    registry=SYSTEM,
)
_exports = Counter(
    "switchhook_billing_exports",
    "Rows of the ledger that were to be sent to a billing system, by what became of the try.",
    ("destination", "outcome"),
    registry=REGISTRY,
)
_exports_waiting = Gauge(
    "switchhook_billing_exports_waiting",
    "Rows of the ledger that a billing system does not have yet.",
    ("destination",),
    registry=SYSTEM,
)
_exports_dead = Gauge(
    "switchhook_billing_exports_dead",
    "Rows of the ledger that a billing system does not have and nobody sends any more.",
    ("destination",),
    registry=SYSTEM,
)
_exports_oldest = Gauge(
    "switchhook_billing_exports_oldest_age_seconds",
    "How long the oldest row has been waiting for a billing system.",
    ("destination",),
    registry=SYSTEM,
)
_reconciliations = Counter(
    "switchhook_billing_reconciliations",
    "Readings of lists of calls at providers, by what became of them; `stuck`: sessions were asked for one by one.",
    ("provider", "outcome"),
    registry=REGISTRY,
)
_reconciled = Counter(
    "switchhook_billing_reconciled_calls",
    "Calls of the providers' that were looked at, by what was done about them.",
    ("provider", "result"),
    registry=REGISTRY,
)
_last_missing = Gauge(
    "switchhook_billing_reconciliation_missing",
    "Calls that the last reading found and that nobody had told of.",
    ("provider",),
    registry=SYSTEM,
)
_last_unassigned = Gauge(
    "switchhook_billing_reconciliation_unassigned",
    "Calls that the last reading found at the provider and that are no account's here.",
    ("provider",),
    registry=SYSTEM,
)
_last_difference = Gauge(
    "switchhook_billing_reconciliation_difference_seconds",
    "By how many seconds charges were beside what the provider says, when the last reading began.",
    ("provider",),
    registry=SYSTEM,
)
_day_begins = Gauge(
    "switchhook_billing_day_begins_timestamp_seconds",
    "When the last day (UTC) began that was compared with the provider's list of calls.",
    ("provider",),
    registry=SYSTEM,
)
_day_accounts = Gauge(
    "switchhook_billing_day_accounts",
    "Accounts with calls on that day, by whether what they have is what the provider lists.",
    ("provider", "state"),
    registry=SYSTEM,
)
_day_calls = Gauge(
    "switchhook_billing_day_calls",
    "Calls of that day that have ended, by ours and by the provider's count.",
    ("provider", "side"),
    registry=SYSTEM,
)
_day_seconds = Gauge(
    "switchhook_billing_day_duration_seconds",
    "How long the calls of that day lasted together, by ours and by the provider's word.",
    ("provider", "side"),
    registry=SYSTEM,
)
_day_cost = Gauge(
    "switchhook_billing_day_provider_cost_usd",
    "What the provider asks for that day's calls, of accounts that are charged in USD.",
    ("provider",),
    registry=SYSTEM,
)
_day_margin = Gauge(
    "switchhook_billing_day_margin_usd",
    "What those accounts were charged beyond that.",
    ("provider",),
    registry=SYSTEM,
)
_recorded = Counter(
    "switchhook_relay_outcomes_recorded", "Outcomes written to Postgres.", ("result",), registry=REGISTRY
)

_recordings = Counter(
    "switchhook_relay_recordings",
    "Recordings that were fetched, by what became of them.",
    ("outcome",),
    registry=REGISTRY,
)


def record_api(family: str, status: int) -> None:
    """A request of the control API was answered."""
    _api_requests.labels(family, str(status)).inc()


def record_ingress(provider: str, outcome: str) -> None:
    """A webhook was answered. `outcome` is new, repeat or an error's code."""
    _ingress_of(provider, outcome).inc()


@lru_cache(maxsize=1024)
def _ingress_of(provider: str, outcome: str) -> Counter:
    return _ingress_requests.labels(provider, outcome)


def record_body_refused(provider: str) -> None:
    """A webhook was too large."""
    _too_large.labels(provider).inc()


def record_accept(seconds: float) -> None:
    """A webhook was committed."""
    _accept.observe(seconds)


def record_context(outcome: str) -> None:
    """A request for context was answered. `outcome` is answered or an error's code."""
    _contexts.labels(outcome).inc()


def record_context_seconds(seconds: float) -> None:
    """A customer's server was asked for context."""
    _context_seconds.observe(seconds)


def record_attempt(outcome: str, seconds: float) -> None:
    """A delivery was attempted. Answers other than 2xx are counted by their hundreds: labels stay few."""
    _attempts_of(outcome).inc()
    _attempt_seconds.observe(seconds)


@lru_cache(maxsize=1024)
def _attempts_of(outcome: str) -> Counter:
    return _attempts.labels(_by_hundreds(outcome))


def record_recording(outcome: str) -> None:
    """A recording was looked at: `completed`, `retried`, `repeated`, or the code of its failure, by their hundreds."""
    _recordings.labels(_by_hundreds(outcome)).inc()


def _by_hundreds(outcome: str) -> str:
    return f"{outcome[:6]}xx" if outcome.startswith("http_") else outcome


def record_lag(seconds: float) -> None:
    """A delivery arrived."""
    _lag.observe(max(0.0, seconds))


def record_outbox(
    lane: str, *, waiting: int, late_seconds: float, accepted: int, delivered: int, dead: int, lost: int
) -> None:
    """The outbox was counted."""
    _waiting.labels(lane).set(waiting)
    _oldest.labels(lane).set(late_seconds)
    for state, count in (("accepted", accepted), ("delivered", delivered), ("dead", dead), ("lost", lost)):
        _units.labels(lane, state).set(count)


def record_unaccounted(events: int) -> None:
    """The outbox was audited."""
    _unaccounted.set(events)


def record_endpoints_disabled(count: int) -> None:
    """The endpoints that take nothing were counted."""
    _disabled.set(count)


def record_agents_unsynced(counts: Mapping[str, int]) -> None:
    """The voice agents that have something open were counted by status."""
    for status, count in counts.items():
        _unsynced.labels(status).set(count)


def record_redis_up(up: bool) -> None:
    """Redis was asked for a scrape."""
    _redis_up.set(up)


def record_processes(running: Mapping[str, int]) -> None:
    """The processes that publish were counted by kind."""
    for kind, count in running.items():
        _processes.labels(kind).set(count)


def record_charge(provider: str, currency: str, rated_seconds: float) -> None:
    """A charge was committed."""
    _charges.labels(currency).inc()
    _rated.labels(provider).inc(rated_seconds)


def record_duration_mismatch(provider: str) -> None:
    """A provider told a duration, and times that say another one."""
    _mismatches.labels(provider).inc()


def record_unrated(reason: str) -> None:
    """A session ended that could not be rated."""
    _unrated.labels(reason).inc()


def record_unrated_sessions(counts: Mapping[str, int]) -> None:
    """The sessions that are not charged were counted by reason."""
    for reason, count in counts.items():
        _unrated_sessions.labels(reason).set(count)


def record_checked(check: str, violations: Mapping[str, int], *, ended_at: float) -> None:
    """The invariants of billing were checked: what changed lately (`recent`), or `everything`."""
    for invariant, count in violations.items():
        _violations.labels(invariant, check).set(count)
    _checked_at.labels(check).set(ended_at)


def record_export(destination: str, outcome: str, count: int) -> None:
    """Rows were sent (`taken`, `repeated`), had nothing to be sent (`empty`), are `retried`, or are `dead`."""
    _exports.labels(destination, outcome).inc(count)


def record_export_backlog(destination: str, *, waiting: int, dead: int, oldest_age_seconds: float) -> None:
    """What waits for a billing system was counted."""
    _exports_waiting.labels(destination).set(waiting)
    _exports_dead.labels(destination).set(dead)
    _exports_oldest.labels(destination).set(oldest_age_seconds)


def record_reconciliation(provider: str, outcome: str, calls: Mapping[str, int]) -> None:
    """A list of calls was read. `calls` are those that something was done about, by what that was."""
    _reconciliations.labels(provider, outcome).inc()
    for result, count in calls.items():
        if count:
            _reconciled.labels(provider, result).inc(count)


def record_reconciled(provider: str, *, missing: int, unassigned: int, difference_seconds: float) -> None:
    """What the last reading of a provider's calls came to is known."""
    _last_missing.labels(provider).set(missing)
    _last_unassigned.labels(provider).set(unassigned)
    _last_difference.labels(provider).set(difference_seconds)


def forget_compared_days() -> None:
    """Those that are known now are recorded next: a provider whose lists nobody reads any more has none."""
    for gauge in (_day_begins, _day_accounts, _day_calls, _day_seconds, _day_cost, _day_margin):
        gauge.clear()


def record_compared_day(
    provider: str,
    *,
    begins: float,
    accounts: Mapping[str, int],
    calls: Mapping[str, int],
    seconds: Mapping[str, float],
    provider_cost_usd: float | None,
    margin_usd: float | None,
) -> None:
    """What the last day that was compared came to is known: `accounts` by state, `calls` and `seconds` by side.

    A cost that nobody knows is not told as none.
    """
    _day_begins.labels(provider).set(begins)
    for state, count in accounts.items():
        _day_accounts.labels(provider, state).set(count)
    for side, count in calls.items():
        _day_calls.labels(provider, side).set(count)
    for side, lasted in seconds.items():
        _day_seconds.labels(provider, side).set(lasted)
    for gauge, amount in ((_day_cost, provider_cost_usd), (_day_margin, margin_usd)):
        if amount is not None:
            gauge.labels(provider).set(amount)


def record_recorded(result: str, count: int) -> None:
    """Outcomes were written to Postgres (`recorded`) or set aside (`refused`)."""
    _recorded.labels(result).inc(count)


def exposition() -> bytes:
    """The metrics of this process in the Prometheus text format."""
    return generate_latest(REGISTRY)


def system_exposition(*, known: bool) -> bytes:
    """The metrics of the whole system; of what is not known only that Redis is away, because old values would lie."""
    return generate_latest(SYSTEM if known else SYSTEM.restricted_registry(["switchhook_relay_redis_up"]))
