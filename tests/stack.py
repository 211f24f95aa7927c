"""The whole system as it runs in production: the processes of the Procfile on a Redis and a Postgres."""

from __future__ import annotations

import base64
import itertools
import os
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import redis
import requests
from prometheus_client.parser import text_string_to_metric_families
from requests.adapters import HTTPAdapter

from relay.connections import postgres_engine, redis_client
from relay.demo.embedded import EmbeddedPostgres, EmbeddedRedis, Scratch, start_redis
from relay.demo.embedded.watchdog import Watchdog
from relay.outbox import keys
from relay.queues import BILLING, OUTBOX_LANES, RECORDINGS, RELAY
from relay.settings import Settings
from relay.store import charges, deliveries, sessions
from relay.store.charges import Charge
from relay.store.database import Database
from relay.store.deliveries import Delivery
from relay.store.migrating import migrate
from relay.store.sessions import Session
from tests.customers import Customer, Customers
from tests.processes import READY_SECONDS, ManagedProcess
from tests.waiting import eventually

METRICS_TOKEN: Final = "token-for-scrapes"
_TEMPLATE: Final = "stack_template"
# More than any of these tests makes.
_EVERYTHING: Final = 100_000
# Longer than a web process takes to start on a busy machine: a request may wait for it at a socket that is held.
_REQUEST_SECONDS: Final = 45.0
# As many as the most threads of a test: a request that waited for another's connection would measure that.
_MANY_CONNECTIONS: Final = 64
_numbers = itertools.count(1)


@cache
def migrated_template(postgres: EmbeddedPostgres) -> str:
    """The name of a migrated, empty database of this server, to copy from; the migrations run in it once."""
    url = postgres.create_database(_TEMPLATE)
    migrate(Settings(database_url=url.replace("postgresql://", "postgresql+psycopg://", 1), redis_url="", keys=""))
    return _TEMPLATE


class Stack:
    """Processes with their settings, and what a test asks of them. Nothing runs until `start`."""

    def __init__(
        self,
        *,
        redis_server: EmbeddedRedis,
        database_url: str,
        logs: Path,
        watchdog: Watchdog,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        port = free_port()
        self.logs = logs
        self.redis_server = redis_server
        self._watchdog = watchdog
        self.url = f"http://127.0.0.1:{port}"
        self.env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_server.url,
            "SWITCHHOOK_KEYS": "first:" + base64.b64encode(os.urandom(32)).decode("ascii"),
            "SWITCHHOOK_ALLOW_HTTP": "1",
            "SWITCHHOOK_EGRESS_ALLOW": "127.0.0.0/8",
            "SWITCHHOOK_PUBLIC_URL": self.url,
            "METRICS_TOKEN": METRICS_TOKEN,
            "HOST": "127.0.0.1",
            "PORT": str(port),
            **(settings or {}),
        }
        self.settings = Settings.from_environ(self.env)
        self.redis: redis.Redis = redis_client(self.settings)
        self.database = Database(postgres_engine(self.settings))
        self.customers = Customers(self.settings, self.database, self.redis)
        self.processes: list[ManagedProcess] = []
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.mount("http://", HTTPAdapter(pool_maxsize=_MANY_CONNECTIONS))

    def __enter__(self) -> Stack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with ExitStack() as exits:
            exits.callback(self.database.close)
            exits.callback(self.redis.close)
            exits.callback(self._http.close)
            exits.callback(self._watchdog.discard, [process.pid for process in self.processes])
            for process in self.processes:
                exits.callback(process.close)
            for process in self.processes:
                if process.is_running:
                    process.terminate()

    def spawn(self, *command: str, descriptors: Collection[int] = ()) -> ManagedProcess:
        """Start one process, which inherits these descriptors, and return at once."""
        process = ManagedProcess(*command, env=self.env, logs=self.logs, descriptors=descriptors)
        self._watchdog.add([process.pid])  # it must not outlive the tests, however they end
        self.processes.append(process)
        return process

    def start(self, *names: str) -> list[ManagedProcess]:
        """Start processes together and wait until each is ready."""
        started = [self.spawn(name) for name in names]
        for process in started:
            if process.command[0] == "web":
                self.await_web(process)
            elif process.command[0] == "worker":
                process.await_event("worker_ready")
        return started

    def await_web(self, process: ManagedProcess) -> None:
        """Wait until web says that it is ready."""

        def ready() -> bool:
            assert process.is_running, "web ended"
            try:
                return self.get("/readyz").ok
            except requests.ConnectionError:
                return False

        eventually(ready, within_seconds=READY_SECONDS, what="/readyz")

    def use_fresh_connections(self) -> None:
        """Have every request of `get` and `post` make a connection of its own from now on."""
        self._http.headers["Connection"] = "close"

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """GET from web."""
        return self._http.get(self.url + path, headers=headers, timeout=_REQUEST_SECONDS)

    def post(self, path: str, body: Any, headers: Mapping[str, str | bytes] | None = None) -> requests.Response:
        """POST to web: `path`, or a whole URL such as a source's. A generator as `body` is sent chunked."""
        url = path if path.startswith("http") else self.url + path
        given = {"Content-Type": "application/json", **(headers or {})}
        return self._http.post(url, data=body, headers=given, timeout=_REQUEST_SECONDS)

    def scrape(self) -> dict[str, float]:
        """What /metrics shows: sums over the labels, by sample name."""
        answer = self.get("/metrics", {"Authorization": f"Bearer {METRICS_TOKEN}"})
        answer.raise_for_status()
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    def await_settled(self, customer: Customer, *, within_seconds: float = 15.0) -> None:
        """Wait until nothing of the customer waits or is in flight, and every outcome is in Postgres."""
        handed_in = keys.line(RECORDINGS, customer.id), keys.fly(RECORDINGS, customer.id)
        waits, leases = keys.line(BILLING, customer.id), keys.fly(BILLING, customer.id)

        def unsettled() -> str:
            # In this order: an event's outcome is in the stream no later than it leaves its line.
            if any(self.redis.zcard(key) for key in handed_in):
                return "a recording waits"
            if self.redis.zcard(waits) or self.redis.zcard(leases):
                return "a charge waits"
            if self.redis.xlen(keys.OUTCOMES):
                return "outcomes wait to be recorded"
            pending = sum(delivery.status == "pending" for delivery in self.deliveries(customer))
            return f"{pending} deliveries are pending" if pending else ""

        state = ["nothing was asked"]

        def settled() -> bool:
            state[0] = unsettled()
            return not state[0]

        try:
            eventually(settled, within_seconds=within_seconds, what="everything settled")
        except AssertionError as error:
            raise AssertionError(f"{error}; {state[0]}") from None

    def in_flight(self) -> set[str]:
        """The events that some worker has claimed for relaying and not settled."""
        found: set[str] = set()
        for key in self.redis.scan_iter(match=keys.fly(RELAY, "*")):
            members: Any = self.redis.zrange(key, 0, -1)
            found |= {member.decode() for member in members}
        return found

    def end_leases(self) -> None:
        """Have the leases of workers that are dead end now: a minute that nobody has to wait for."""
        now_ms = int(time.time() * 1000)
        for lane in OUTBOX_LANES:
            flying: Any = self.redis.keys(keys.fly(lane, "*"))
            for fly in flying:
                claimed: Any = self.redis.zrange(fly, 0, -1)
                self.redis.zadd(fly, dict.fromkeys(claimed, now_ms), xx=True)
                self.redis.zadd(keys.due(lane), {fly.rpartition(b":")[2]: now_ms})

    def put_off(self, endpoint_id: str, event_id: str, *, seconds: float) -> None:
        """Have the retry that an event waits for come so many seconds from now, instead of when it was due."""
        due_ms = int((time.time() + seconds) * 1000)
        self.redis.zadd(keys.line(RELAY, endpoint_id), {event_id: due_ms}, xx=True)
        self.redis.zadd(keys.due(RELAY), {endpoint_id: due_ms})

    def await_retry(self, endpoint_id: str, event_id: str) -> None:
        """Wait until an event has failed at an endpoint and waits for its next attempt."""

        def waits() -> bool:
            due_ms: Any = self.redis.zscore(keys.line(RELAY, endpoint_id), event_id)
            return due_ms is not None and due_ms > time.time() * 1000

        eventually(waits, within_seconds=READY_SECONDS, what="a retry that waits")

    def deliveries(self, customer: Customer) -> Sequence[Delivery]:
        """The customer's deliveries, as `switchhook deliveries` shows them."""
        with self.database.begin() as connection:
            return deliveries.page(connection, account_id=customer.id, limit=_EVERYTHING)

    def charges(self, customer: Customer) -> Sequence[Charge]:
        """The customer's ledger."""
        with self.database.begin() as connection:
            return charges.page(connection, account_id=customer.id, limit=_EVERYTHING)

    def sessions(self, customer: Customer) -> Sequence[Session]:
        """The customer's sessions."""
        with self.database.begin() as connection:
            return sessions.page(connection, account_id=customer.id, limit=_EVERYTHING)


def free_port() -> int:
    """A port of the loopback interface that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def fresh_stack(
    scratch: Scratch, postgres: EmbeddedPostgres, *, logs: Path, settings: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """A stack on a Redis server and a migrated database that nobody else uses; both are gone afterwards."""
    name = f"stack_{next(_numbers)}"
    server = start_redis(scratch, name=name)
    url = postgres.create_database(name, template=migrated_template(postgres))
    try:
        with Stack(
            redis_server=server, database_url=url, logs=logs, watchdog=scratch.watchdog, settings=settings
        ) as stack:
            yield stack
    finally:
        server.stop()
        postgres.drop_database(name)
