"""The bare limits: what each stage could do if it were nothing but its slowest part.

Run as `python -m bench.bare web PORT`, or as `... accept REDIS_URL COUNT BYTES`, `... post URL COUNT BYTES`,
`... cold PORT COUNT BYTES CA_FILE` or `... insert DATABASE_URL COUNT`, which print seconds.
"""

from __future__ import annotations

import base64
import os
import sys
import time
from collections.abc import Sequence
from decimal import Decimal

import psycopg
import pycurl
from flask import Flask, Response

from bench.load import Route, admissions
from bench.tls_hosts import addresses
from relay import server
from relay.connections import redis_client
from relay.outbox import accept_call
from relay.outbox.scripts import Scripts
from relay.sealing import KeyRing
from relay.settings import Settings

_SLOTS = 256
_BATCH = 256
# As many as wait at once at 64 connections.
_GROUP = 64
_PIPELINED = 8


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
    """granian with the empty application, on a socket and with settings as those of `switchhook web`."""
    settings = Settings(database_url="", redis_url="", keys="", host="127.0.0.1", port=port)
    server.run(empty_app, server.listen(settings.host, port), settings)


def accept(url: str, count: int, size_bytes: int) -> float:
    """Seconds that accepting alone takes: events sealed before, in full groups, several script calls in a pipeline."""
    client = redis_client(Settings(database_url="", redis_url=url, keys=""), timeout_seconds=30)
    ring = KeyRing("k1:" + base64.b64encode(bytes(32)).decode())
    routes = [Route("acc_bare", "src_bare", "ep_bare")]
    load = admissions(routes, count, ring=ring, size_bytes=size_bytes, relayed=True, billed=True)
    calls = [accept_call(load[first : first + _GROUP]) for first in range(0, count, _GROUP)]
    scripts = Scripts(client)
    scripts.run_all(calls[:1])
    began = time.monotonic()
    for first in range(1, len(calls), _PIPELINED):
        scripts.run_all(calls[first : first + _PIPELINED])
    return (time.monotonic() - began) * len(calls) / (len(calls) - 1)


def post(url: str, count: int, size_bytes: int) -> float:
    """Seconds that libcurl's multi interface alone takes to post `count` bodies over connections that it keeps."""
    return _posted([url] * count, b"x" * size_bytes, handles=_SLOTS)


def cold(port: int, count: int, size_bytes: int, ca_file: str) -> float:
    """Seconds that it takes to post one body to each of so many https hosts that it never saw."""
    urls = [f"https://{address}:{port}/" for address in addresses(count)]
    return _posted(urls, b"x" * size_bytes, handles=_SLOTS, ca_file=ca_file)


def _posted(urls: Sequence[str], body: bytes, *, handles: int, ca_file: str | None = None) -> float:
    """pycurl as its manual shows it: no guard, no callbacks, no deadline; what comes back goes nowhere."""
    multi = pycurl.CurlMulti()
    sink = open(os.devnull, "wb")  # noqa: PTH123, SIM115  libcurl writes to it until the process ends
    idle: list[pycurl.Curl] = []
    for _ in range(handles):
        curl = pycurl.Curl()
        curl.setopt(pycurl.POST, 1)
        curl.setopt(pycurl.HTTPHEADER, [b"Content-Type: application/json", b"Expect:"])
        curl.setopt(pycurl.POSTFIELDS, body)
        curl.setopt(pycurl.WRITEDATA, sink)
        curl.setopt(pycurl.NOSIGNAL, 1)
        if ca_file is not None:
            curl.setopt(pycurl.CAINFO, ca_file)
        idle.append(curl)
    waiting = list(reversed(urls))
    began, ended = time.monotonic(), 0
    while ended < len(urls):
        while idle and waiting:
            curl = idle.pop()
            curl.setopt(pycurl.URL, waiting.pop())
            multi.add_handle(curl)
        multi.perform()
        _, succeeded, failed = multi.info_read(handles)
        if failed:
            raise SystemExit(f"libcurl failed with {failed[0][1]}")
        for curl in succeeded:
            multi.remove_handle(curl)
            idle.append(curl)
        ended += len(succeeded)
        if not succeeded:
            multi.select(1.0)
    return time.monotonic() - began


def insert(url: str, count: int) -> float:
    """Seconds that multi-row inserts into the ledger alone take, in transactions as large as the lane's."""
    statement = """
        INSERT INTO ledger (account_id, provider, conversation_id, kind, sequence, session_id, started_at,
            duration_seconds, billed_seconds, unit_price, exact, amount, currency, steps, created_at, quantity, period)
        SELECT 'acc_bare', 'bare', id, 'charge', 1, 1, now(), 91, 91, 0.1, 0.15, 0.15, 'USD', '{}', now(), 1.5, now()
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
