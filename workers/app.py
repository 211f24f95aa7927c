"""The Celery application of a worker process: bells wake lanes, signals start and stop them.

Tasks carry no arguments and keep no results: all state is in the outbox. The threads pool is one process, which
SIGTERM stops warmly: claim nothing more, finish or release what is in flight within 25 s, settle, exit.
"""

from __future__ import annotations

import os
import socket
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, Protocol

from celery import Celery
from celery.apps import worker as celery_worker
from celery.exceptions import SecurityWarning
from celery.signals import setup_logging, worker_ready, worker_shutdown, worker_shutting_down

from relay import memory, queues
from relay.agents.clients import Clients
from relay.agents.rounds import WebhookRounds
from relay.agents.sync import Sync
from relay.agents.webhooks import WorkspaceWebhooks
from relay.connections import postgres_engine, redis_client
from relay.directory import Directory, Mirror
from relay.errors import NotFound, Unavailable
from relay.notices import Notices
from relay.outbox import Accepted, Outbox, fitness
from relay.outbox.outcomes import OutcomeReader
from relay.outbox.ring import Bell, unmute
from relay.provisioning import Provisioning
from relay.reconciliation import Reconciler
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import audit
from relay.store.database import Database
from relay.telemetry import logs, port
from relay.telemetry.publisher import Publisher
from workers import bells, books, expiry, upkeep
from workers.audit import AuditAlarm
from workers.charge import ChargeLane
from workers.close import close_months
from workers.crew import Crew
from workers.deliver import DeliveryThread
from workers.export import count_exports, export_crews
from workers.lane import Lane
from workers.lost import find_what_was_lost
from workers.notices import tell_accounts
from workers.record import RecordLane
from workers.recordings import recordings_crew

_SWEEP_SECONDS: Final = 10.0
# Conversations whose agents are given up in one turn of upkeep.
_IDLE_MOST: Final = 100
_UNUSED_MOST: Final = 100
# What this process settles is recorded at once; what only others have done, by the tick.
_RECORD_SECONDS: Final = 2.0


class Host(Protocol):
    """A thread that works a lane off."""

    def start(self) -> None: ...
    def wake(self) -> None: ...
    def stop(self) -> None: ...


class Worker:
    """The lanes of one process."""

    def __init__(self, settings: Settings, app: Celery, lanes: Sequence[str]) -> None:
        self.ring = KeyRing(settings.keys)
        self.client = redis_client(settings)
        self.keep = settings.recharge
        self.database = Database(postgres_engine(settings))
        self.mirror = Mirror(self.client, self.ring)
        clients = Clients(settings, self.database, self.ring)
        self.sync = Sync(settings, self.database, self.ring, self.mirror, clients)
        webhooks = WorkspaceWebhooks(settings, self.database, self.ring, self.mirror)
        self.rounds = WebhookRounds(self.database, webhooks, clients)
        self.outbox = Outbox(self.client)
        provisioning = Provisioning(settings, self.database, self.ring, self.mirror, self.outbox)
        self.reconciler = Reconciler(settings, self.database, self.ring, self.client, on_accepted=self._ring_for)
        self.provisioning = provisioning.acting_as(audit.UPKEEP)
        # The audit looks at every line: one process in several may have that to do.
        self._audit_alarm = AuditAlarm(self.outbox) if queues.RELAY in lanes else None
        self._bell = Bell(app, self.client)
        directory = Directory(self.mirror, self.ring, self.database)
        self.notices = Notices(settings, self.ring, self.database, directory, self.outbox, on_accepted=self._ring_for)
        self._stopping = threading.Event()
        self.hosts: dict[str, Host] = {}
        if queues.RECORD in lanes:
            reader = OutcomeReader(self.client, consumer=f"{socket.gethostname()}:{os.getpid()}")
            record = RecordLane(reader, self.database, on_gone=self._endpoint_gone)
            self.hosts[queues.RECORD] = Lane(queues.RECORD, record.step, tick_seconds=_RECORD_SECONDS)
        if queues.BILLING in lanes:
            charge = ChargeLane(self.outbox, self.database, keep=settings.recharge)

            def rung() -> None:
                charge.expect()
                unmute(self.client, queues.BILLING)

            self.hosts[queues.BILLING] = Lane(queues.BILLING, charge.step, before_look=rung)
            self.hosts.update(export_crews(settings, self.database))
        if queues.RELAY in lanes:
            self.hosts[queues.RELAY] = DeliveryThread(
                settings,
                self.ring,
                Directory(self.mirror, self.ring, self.database),
                on_settled=lambda: self.wake(queues.RECORD),
                on_more=lambda: self._bell.ring(queues.RELAY),
            )
        if queues.RECORDINGS in lanes:
            directory = Directory(self.mirror, self.ring, self.database)
            self.hosts[queues.RECORDINGS] = recordings_crew(
                settings, self.ring, self.client, self.database, directory, on_accepted=self._ring_for
            )
        # Not left to beat: what has ended must give its bytes back, or its account would be refused for good.
        self.hosts[queues.UPKEEP] = Lane(queues.UPKEEP, self._sweep, tick_seconds=_SWEEP_SECONDS)

    def start(self) -> None:
        """Begin working."""
        for host in self.hosts.values():
            host.start()

    def wake(self, lane: str) -> None:
        """Have a lane looked into now, if this process works it."""
        if lane in self.hosts:
            self.hosts[lane].wake()

    def stop(self) -> None:
        """Claim nothing more, and break off what takes long. Returns at once."""
        self._stopping.set()
        for host in self.hosts.values():
            host.stop()

    def goes_on(self) -> bool:
        """Whether nobody has asked this process to end: Celery waits for jobs that are under way."""
        return not self._stopping.is_set()

    def join(self) -> None:
        """Wait until the lanes have ended; relaying first, so that its outcomes can still be recorded elsewhere."""
        for host in self.hosts.values():
            if isinstance(host, DeliveryThread):
                host.join()
        for host in self.hosts.values():
            if isinstance(host, Lane | Crew):
                host.join(5)

    def _ring_for(self, accepted: Accepted) -> None:
        for lane in accepted.rings:
            self._bell.ring(lane)

    def _sweep(self) -> bool:
        upkeep.end_events(self.outbox)
        if self._audit_alarm is not None:
            self._audit_alarm.audit_if_due()
        return False

    def _endpoint_gone(self, account_id: str, endpoint_id: str) -> None:
        """The endpoint answered 410: disable it for good. Raises Unavailable, and is then told again."""
        logs.alarm("endpoint_gone", account_id=account_id, endpoint_id=endpoint_id)
        try:
            self.provisioning.close_gone_endpoint(account_id=account_id, endpoint_id=endpoint_id)
        except NotFound:
            logs.warning("endpoint_unknown", endpoint_id=endpoint_id)


def create_worker(settings: Settings, lanes: Sequence[str]) -> Celery:
    """A Celery application whose worker process works these lanes."""
    app = queues.celery_app(settings)
    worker = Worker(settings, app, lanes)
    publisher = Publisher.of(settings, "worker")
    _add_tasks(app, worker)

    # Celery keeps weak references to receivers; the closures live as long as the application.
    def keep_logging(**_: Any) -> None:
        logs.configure(settings.log_level)

    asked_to_stop: SimpleQueue[None] = SimpleQueue()

    def start(**_: Any) -> None:
        threading.Thread(target=stop_when_asked, name="stopper", daemon=True).start()
        worker.start()
        publisher.start()
        logs.info("worker_ready", pid=os.getpid(), lane=",".join(lanes))

    def ask_to_stop(**_: Any) -> None:
        # Called by a handler of signals, which the next signal may interrupt: what takes a lock here would wait for
        # itself. Only this queue is made for that.
        asked_to_stop.put(None)

    def stop_when_asked() -> None:
        asked_to_stop.get()
        logs.info("worker_stopping", pid=os.getpid())
        worker.stop()

    def join(**_: Any) -> None:
        worker.stop()
        worker.join()
        publisher.stop()
        logs.info("worker_stopped", pid=os.getpid())

    # Celery sends this signal from its handler of SIGTERM under a plain lock: a second SIGTERM, in the middle of that,
    # would wait for itself for ever.
    worker_shutting_down.lock = threading.RLock()
    setup_logging.connect(keep_logging, weak=False)
    worker_ready.connect(start, weak=False)
    worker_shutting_down.connect(ask_to_stop, weak=False)
    worker_shutdown.connect(join, weak=False)
    return app


def _add_tasks(app: Celery, worker: Worker) -> None:
    jobs: dict[str, Callable[[], object]] = {
        name: partial(worker.wake, lane) for lane, name in queues.BELLS.items()
    } | {
        queues.PARTITIONS: partial(upkeep.make_partitions, worker.database),
        queues.RETENTION: partial(upkeep.drop_old_records, worker.database),
        queues.REWRITE: partial(upkeep.rewrite_append_only_file, worker.client),
        queues.FORGET: partial(upkeep.forget_charged, worker.client, worker.keep),
        queues.UNRATED: partial(books.count_unrated, worker.mirror, worker.database),
        queues.CHECK: partial(books.check, worker.client, worker.mirror, worker.database, goes_on=worker.goes_on),
        queues.LOST: partial(find_what_was_lost, worker.client, worker.database),
        queues.MIRROR: partial(upkeep.mirror_configuration, worker.mirror, worker.database),
        queues.AGENTS: partial(upkeep.sync_agents, worker.sync, worker.mirror, worker.database),
        queues.WEBHOOKS: partial(upkeep.look_after_webhooks, worker.rounds),
        queues.CONVERSATIONS: partial(worker.provisioning.retire_idle_conversations, _IDLE_MOST),
        queues.ABANDONED: partial(upkeep.abandon_sessions, worker.database),
        queues.EXPORTS: partial(count_exports, worker.mirror, worker.database),
        queues.NOTICES: partial(tell_accounts, worker.database, worker.notices),
        queues.CLOSING: partial(close_months, worker.database, goes_on=worker.goes_on),
        queues.ENDPOINTS: partial(worker.provisioning.close_unused_endpoints, _UNUSED_MOST),
        queues.RECONCILIATION: partial(worker.reconciler.run, goes_on=worker.goes_on),
        queues.EXPIRY: partial(expiry.end_what_is_over, worker.mirror, worker.database, worker.ring),
    }
    for name, job in jobs.items():
        app.task(name=name, Strategy=bells.STRATEGY, shared=False)(_contained(name, job))


def _contained(name: str, job: Callable[[], object]) -> Callable[[], None]:
    """A job that keeps its errors to itself: Celery would log their texts. What failed is done at the next bell."""

    def task() -> None:
        try:
            job()
        except Unavailable as error:
            logs.warning("task_postponed", task=name, error=error)
        except Exception as error:
            logs.failure("task_failed", error, task=name)

    return task


def run(settings: Settings, lanes: Sequence[str]) -> None:
    """Work until SIGTERM. Raises SettingsError for a Redis that cannot be an outbox, and for a port that is taken."""
    logs.configure(settings.log_level)
    fitness.require(redis_client(settings))
    port.serve(settings)
    # Celery's warning about root goes to the terminal, not to the log; containers run as root.
    warnings.simplefilter("ignore", SecurityWarning)
    # And what it says at a signal goes past all logging to standard output, where every line is JSON.
    celery_worker.safe_say = lambda *_: None
    bells.restore_nothing()
    app = create_worker(settings, lanes)
    process = app.Worker(
        pool="threads",
        concurrency=4,
        queues=[*lanes, queues.UPKEEP],
        hostname=f"switchhook-{os.getpid()}@{socket.gethostname()}",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="WARNING",
        quiet=True,
    )
    # While this is the only thread.
    memory.settle()
    process.start()
    raise SystemExit(process.exitcode)
