"""web's `/metrics`: the whole system in one answer, because on many platforms only web can be asked.

It has what this process counts now, what the others published last, each with its `process`, and the gauges of the
outbox once. No SQL: Redis is asked, and a Redis that is away costs one timeout.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from flask import Flask, Response, request

from relay.directory import Mirror
from relay.directory.checked import SCOPES, Checked, CheckScope
from relay.errors import Unavailable
from relay.outbox import Audit, Outbox
from relay.queues import OUTBOX_LANES
from relay.request_ids import REQUEST_ID, new_request_id
from relay.settings import Settings
from relay.store.exports import Backlog
from relay.store.reconciliations import Compared
from relay.telemetry import metrics
from relay.telemetry.access import require_token
from relay.telemetry.exchange import Exchange, Others
from relay.telemetry.page import Page
from relay.telemetry.process import KINDS, kind_of, process_name


@dataclass(frozen=True, slots=True)
class _System:
    audits: dict[str, Audit]
    disabled_endpoints: int
    unsynced_agents: dict[str, int]
    reconciliations: dict[str, tuple[int, int, float]]
    compared: dict[str, Compared]
    exports: dict[str, Backlog]
    unrated: dict[str, int]
    checked: dict[CheckScope, Checked]
    others: Others


class Scrape:
    """Answers scrapes in this process."""

    def __init__(self, settings: Settings, exchange: Exchange, outbox: Outbox, mirror: Mirror) -> None:
        self._process = process_name("web", dyno=settings.dyno)
        self._exchange = exchange
        self._outbox = outbox
        self._mirror = mirror
        # The gauges of the system are one set in this process; scrapes that overlap take turns in filling it.
        self._filling = threading.Lock()

    def text(self) -> bytes:
        """The page in the Prometheus text format; without Redis only this process, and a gauge that says so."""
        try:
            system = self._look()
        except Unavailable:
            system = None
        page = Page(metrics.REGISTRY, self._process, system.others.shown if system else {}).text()
        with self._filling:
            metrics.record_redis_up(system is not None)
            if system:
                self._record(system)
            return page + metrics.system_exposition(known=system is not None)

    def _look(self) -> _System:
        return _System(
            audits={lane: self._outbox.audit(lane) for lane in OUTBOX_LANES},
            disabled_endpoints=self._mirror.disabled_endpoints(),
            unsynced_agents=self._mirror.unsynced_agents(),
            reconciliations=self._mirror.reconciliations(),
            compared=self._mirror.compared(),
            exports=self._mirror.exports(),
            unrated=self._mirror.unrated(),
            checked={scope: noted for scope in SCOPES if (noted := self._mirror.checked(scope)) is not None},
            others=self._exchange.others(self._process),
        )

    def _record(self, system: _System) -> None:
        for lane, audit in system.audits.items():
            metrics.record_outbox(
                lane,
                waiting=audit.waiting + audit.in_flight,
                late_seconds=audit.late_ms / 1000,
                accepted=audit.accepted,
                delivered=audit.delivered,
                dead=audit.dead,
                lost=audit.lost,
            )
        metrics.record_unaccounted(sum(audit.unaccounted for audit in system.audits.values()))
        metrics.record_endpoints_disabled(system.disabled_endpoints)
        metrics.record_agents_unsynced(system.unsynced_agents)
        for provider, (missing, unassigned, seconds) in system.reconciliations.items():
            metrics.record_reconciled(provider, missing=missing, unassigned=unassigned, difference_seconds=seconds)
        metrics.forget_compared_days()
        for provider, day in system.compared.items():
            metrics.record_compared_day(
                provider,
                begins=day.begins,
                accounts={"same": day.accounts - day.differing, "different": day.differing},
                calls={"ours": day.sessions, "providers": day.provider_sessions},
                seconds={"ours": day.duration_seconds, "providers": day.provider_duration_seconds},
                provider_cost_usd=day.provider_cost_usd,
                margin_usd=day.margin_usd,
            )
        for destination, backlog in system.exports.items():
            metrics.record_export_backlog(
                destination,
                waiting=backlog.waiting,
                dead=backlog.dead,
                oldest_age_seconds=backlog.oldest_age_seconds,
            )
        metrics.record_unrated_sessions(system.unrated)
        for scope, checked in system.checked.items():
            metrics.record_checked(scope, checked.violations, ended_at=checked.ended_at)
        running = Counter(kind_of(name) for name in (self._process, *system.others.names))
        metrics.record_processes({kind: running[kind] for kind in KINDS})


def add_metrics(app: Flask, scrape: Scrape, settings: Settings) -> None:
    """Add the route to web."""

    @app.get("/metrics")
    def metrics_page() -> Response:
        """Prometheus text format, for whoever may read it."""
        require_token(settings, request.headers.get("Authorization", ""))
        headers = {REQUEST_ID: new_request_id()}
        return Response(scrape.text(), content_type=metrics.CONTENT_TYPE, headers=headers)
