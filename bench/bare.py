"""The bare limits: what each stage could do if it were nothing but its slowest part.

Run as `python -m bench.bare web PORT`, `... post URL COUNT` or `... insert URL COUNT`; the last two print seconds.
"""

from __future__ import annotations

import sys
import time
from decimal import Decimal

import psycopg
from flask import Flask, Response

from relay.content import Content
from relay.delivery.transport import Request, Transport

_SLOTS = 256
_BATCH = 256


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


def post(url: str, count: int) -> float:
    """Seconds that libcurl alone takes to post `count` bodies of 4 KB: nothing is signed, claimed or settled."""
    import ipaddress  # noqa: PLC0415

    transport = Transport(allow=[ipaddress.ip_network("127.0.0.0/8")], user_agent="bare")
    request = Request(url=url, headers=[b"Content-Type: application/json", b"Expect:"], body=Content(b"x" * 4096),
                      deadline_ms=15_000)  # fmt: skip
    began, started, ended = time.monotonic(), 0, 0
    while ended < count:
        while started < count and transport.in_flight < _SLOTS:
            transport.start(request, started)
            started += 1
        ended += len(transport.step(1.0))
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
    if sys.argv[1] == "web":
        serve(int(sys.argv[2]))
    else:
        print((post if sys.argv[1] == "post" else insert)(sys.argv[2], int(sys.argv[3])))
