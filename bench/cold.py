"""Deliveries to hosts that no connection exists to: each costs a TCP connection and a whole TLS handshake."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.backlog import drain, fill
from bench.lines import Line, line
from bench.load import Route, admissions
from bench.stack import MEASURED_CORE, OTHER_CORE, Stack, bare, free_port, process, wait_for_port
from bench.tls_hosts import addresses
from bench.usage import cpu_seconds
from relay.provisioning import Provisioning
from relay.queues import RELAY

HOSTS = 1000
# An account's configuration is mirrored whole at each change: many small accounts are set up sooner than a large one.
_HOSTS_PER_ACCOUNT = 50


def deliver_tls_cold(stack: Stack, *, size_bytes: int) -> Iterator[Line]:
    """One delivery to each of 1,000 hosts, by a worker that knows none of them."""
    port = free_port()
    with _hosts(stack, port) as ca_file:
        stack.environ["SWITCHHOOK_CA_FILE"] = str(ca_file)
        routes = _provision(stack, [f"https://{address}:{port}/" for address in addresses(HOSTS)])
        with process(stack, "worker", "--lanes", RELAY, core=MEASURED_CORE) as worker:
            time.sleep(4)  # it has started, and has nothing to do
            load = admissions(routes, HOSTS, ring=stack.ring, size_bytes=size_bytes, relayed=True, billed=False)
            before = cpu_seconds(worker.pid)
            fill(stack.outbox, load)
            drained = drain(stack.outbox, RELAY)
            spent = cpu_seconds(worker.pid) - before
        del stack.environ["SWITCHHOOK_CA_FILE"]
        limit = HOSTS / bare("cold", str(port), str(HOSTS), str(size_bytes), str(ca_file))
    yield line("deliver_tls_cold_per_s", drained.per_second, "events/s", limit=limit, limit_of="libcurl alone")
    # The hosts are one Python process on the other core, and slower than a worker.
    yield line("deliver_tls_cold_per_cpu_s", HOSTS / spent, "events/s")


@contextmanager
def _hosts(stack: Stack, port: int) -> Iterator[Path]:
    folder = stack.directory / "hosts"
    arguments = [str(port), str(folder), str(OTHER_CORE), str(HOSTS)]
    started = subprocess.Popen([sys.executable, "-m", "bench.tls_hosts", *arguments])
    try:
        wait_for_port(port)
        yield folder / "ca.pem"
    finally:
        started.terminate()
        started.wait(20)


def _provision(stack: Stack, urls: list[str]) -> list[Route]:
    provisioning = Provisioning.connect(stack.settings)
    routes = []
    for first in range(0, len(urls), _HOSTS_PER_ACCOUNT):
        account_id = provisioning.create_account(name="cold").account.id
        for url in urls[first : first + _HOSTS_PER_ACCOUNT]:
            endpoint = provisioning.create_endpoint(account_id=account_id, url=url)
            routes.append(Route(account_id, "src_none", endpoint.id))
    return routes
