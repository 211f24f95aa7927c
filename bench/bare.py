"""The bare limits: what each stage could do if it were nothing but its slowest part.

Run as `python -m bench.bare web PORT`, or as `... accept REDIS_URL COUNT BYTES`, `... post URL COUNT BYTES`,
`... cold PORT COUNT BYTES CA_FILE` or `... insert DATABASE_URL COUNT`, which print seconds.
"""

from __future__ import annotations

import base64
import ipaddress
import sys
import time
from decimal import Decimal

import psycopg
from flask import Flask, Response

from bench.load import Route, admissions
from bench.tls_hosts import addresses
from relay.connections import redis_client
from relay.content import Content
from relay.delivery.transport import Request, Transport
from relay.outbox import Outbox
from relay.sealing import KeyRing
from relay.settings import Settings

_SLOTS = 256
_BATCH = 256
# As many as wait at once at 64 connections.
_GROUP = 64


def empty_app() -> Flask:
    """A Flask application whose one view reads its body and answers."""
    from flask import request  # noqa: PLC0415

    app = Flask("bare")

    @app.post("/<path:anything>")
    def view(anything: str) -> Response:  # noqa: ARG001  the route's name for any path
        request.environ["wsgi.input"].read(1 << 20)
        return Response(b'{"received":true}', content_type="application/json")

    return app


def serve(port: int) -> None:
    """granian with the empty application, set up as `switchhook web` sets it up."""
    from granian.constants import Interfaces  # noqa: PLC0415
    from granian.server import Server  # noqa: PLC0415

    Server(
        "bench.bare:empty_app", factory=True, address="127.0.0.1", port=port, interface=Interfaces.WSGI,
        websockets=False, blocking_threads=256, backlog=2048, backpressure=256, log_access=False, log_enabled=False,
    ).serve()  # fmt: skip


def accept(url: str, count: int, size_bytes: int) -> float:
    """Seconds that accepting alone takes: events sealed before, in full groups, one script call after another."""
    settings = Settings(database_url="", redis_url=url, keys="")
    ring = KeyRing("k1:" + base64.b64encode(bytes(32)).decode())
    routes = [Route("acc_bare", "src_bare", "ep_bare")]
    load = admissions(routes, count, ring=ring, size_bytes=size_bytes, relayed=True, billed=True)
    outbox = Outbox(redis_client(settings, timeout_seconds=30))
    began = time.monotonic()
    for first in range(0, count, _GROUP):
        outbox.accept(load[first : first + _GROUP])
    return time.monotonic() - began


def post(url: str, count: int, size_bytes: int) -> float:
    """Seconds that libcurl alone takes to post `count` bodies: nothing is signed, claimed or settled."""
    transport = Transport(allow=[ipaddress.ip_network("127.0.0.0/8")], user_agent="bare")
    request = Request(url=url, headers=[b"Content-Type: application/json", b"Expect:"], body=Content(b"x" * size_bytes),
                      deadline_ms=15_000)  # fmt: skip
    began, started, ended = time.monotonic(), 0, 0
    while ended < count:
        while started < count and transport.in_flight < _SLOTS:
            transport.start(request, started)
            started += 1
        ended += len(transport.step(1.0))
    return time.monotonic() - began


def cold(port: int, count: int, size_bytes: int, ca_file: str) -> float:
    """Seconds that libcurl alone takes to post one body to each of so many https hosts that it never saw."""
    transport = Transport(allow=[ipaddress.ip_network("127.0.0.0/8")], ca_file=ca_file, user_agent="bare")
    waiting = [
        Request(
            url=f"https://{address}:{port}/", headers=[b"Expect:"], body=Content(b"x" * size_bytes), deadline_ms=60_000
        )
        for address in addresses(count)
    ]
    began, ended = time.monotonic(), 0
    while ended < count:
        while waiting and transport.in_flight < _SLOTS:
            transport.start(waiting.pop(), None)
        ended += sum(finished.result.is_delivered for finished in transport.step(1.0))
    return time.monotonic() - began


def insert(url: str, count: int) -> float:
    """Seconds that multi-row inserts into the ledger alone take, in transactions as large as the lane's."""
    statement = """
        INSERT INTO ledger (account_id, provider, conversation_id, kind, sequence, session_id, started_at,
            duration_seconds, billed_seconds, unit_price, exact, amount, currency, steps, created_at)
        SELECT 'acc_bare', 'bare', id, 'charge', 1, 1, now(), 91, 91, 0.1, 0.15, 0.15, 'USD', '{}', now()
        FROM unnest(%s::text[]) AS id
    """
    with psycopg.connect(url) as connection:
        began = time.monotonic()
        for first in range(0, count, _BATCH):
            connection.execute(statement, ([f"{Decimal(first + n)}" for n in range(_BATCH)],))
            connection.commit()
        return time.monotonic() - began


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["web", port]:
            serve(int(port))
        case ["accept", url, count, size_bytes]:
            print(accept(url, int(count), int(size_bytes)))
        case ["post", url, count, size_bytes]:
            print(post(url, int(count), int(size_bytes)))
        case ["cold", port, count, size_bytes, ca_file]:
            print(cold(int(port), int(count), int(size_bytes), ca_file))
        case ["insert", url, count]:
            print(insert(url, int(count)))
        case _:
            sys.exit(__doc__)
