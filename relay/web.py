"""The web process: ingress, health and metrics in one Flask application, served by granian."""

from __future__ import annotations

import hmac
import socket
import threading
from typing import Final

import redis
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from relay.connections import postgres_engine, redis_client
from relay.directory import Directory, Mirror
from relay.errors import SettingsError, SwitchhookError, Unauthorized
from relay.ingress import webhooks
from relay.ingress.commit import GroupCommit
from relay.ingress.intake import Intake
from relay.ingress.pressure import PressureGauge
from relay.outbox import Accepted, Outbox, fitness
from relay.outbox.ring import Bell
from relay.problems import envelope, problem, retry_after
from relay.queues import BILLING, RELAY, celery_app
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store.database import Database
from relay.telemetry import logs, metrics

CANARY_PREFIX: Final = "/api/convagents/"
# Flask would hand an oversized body to nobody in particular; the ingress reads bodies itself.
_GRANIAN_BACKLOG: Final = 2048


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI application. Connections are made on first use, so that it can be imported before servers are up."""
    settings = settings or Settings.from_environ()
    logs.configure(settings.log_level)
    # A connection for each thread: waiting for one would look like a Redis that does not answer.
    client = redis_client(settings, max_connections=settings.blocking_threads + 16)
    ring = KeyRing(settings.keys)
    mirror = Mirror(client, ring)
    directory = Directory(mirror, ring, Database(postgres_engine(settings)))
    outbox = Outbox(client)
    bell = Bell(celery_app(settings), client)

    def on_accepted(accepted: Accepted) -> None:
        directory.saw(accepted.config_version)
        for lane in accepted.rings:
            bell.ring(lane)
        for account_id in accepted.half_full:
            logs.alarm("quota_half_full", account_id=account_id)

    pressure = PressureGauge(client, on_config_version=directory.saw)
    commits = GroupCommit(outbox, on_accepted=on_accepted, pressure=pressure)
    app = Flask("switchhook", static_folder=None)
    app.config["SWITCHHOOK_MAX_BODY"] = settings.max_body_bytes
    app.extensions[webhooks.EXTENSION] = Intake(settings, ring, directory, commits)
    app.register_blueprint(webhooks.blueprint)
    _add_health(app, client)
    _add_metrics(app, outbox, mirror, token=settings.metrics_token, open_without=settings.allow_http)
    app.register_error_handler(Exception, _answer_error)
    return app


def serve(settings: Settings, *, port: int | None = None) -> None:
    """Serve until SIGTERM. Raises SettingsError when the port is taken.

    granian binds with SO_REUSEPORT, so a leftover process would silently take half of the webhooks.
    """
    from granian.constants import Interfaces  # noqa: PLC0415  only the serving process needs the server
    from granian.server import Server  # noqa: PLC0415

    port = port or settings.port
    _probe_port(settings.host, port)
    logs.configure(settings.log_level)
    fitness.require(redis_client(settings))
    Server(
        "relay.web:create_app",
        factory=True,
        address=settings.host,
        port=port,
        interface=Interfaces.WSGI,
        websockets=False,
        workers=settings.web_concurrency,
        blocking_threads=settings.blocking_threads,
        backlog=_GRANIAN_BACKLOG,
        backpressure=settings.blocking_threads,
        log_access=False,
        log_dictconfig=logs.GRANIAN,
        respawn_failed_workers=True,
    ).serve()


def _probe_port(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(f"PORT {port} is taken; stop what listens there, or choose another PORT") from error


def _add_health(app: Flask, client: redis.Redis) -> None:
    @app.get("/livez")
    def livez() -> Response:
        """This process answers."""
        return Response(b"ok\n", content_type="text/plain")

    @app.get("/readyz")
    def readyz() -> Response:
        """This process can take webhooks: Redis answers."""
        try:
            client.ping()
        except redis.RedisError:
            return Response(b"redis does not answer\n", status=503, content_type="text/plain")
        return Response(b"ok\n", content_type="text/plain")


def _add_metrics(app: Flask, outbox: Outbox, mirror: Mirror, *, token: str, open_without: bool) -> None:
    lock = threading.Lock()

    @app.get("/metrics")
    def scrape() -> Response:
        """Prometheus text format, for the bearer of METRICS_TOKEN; without one set, only where http is allowed."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token and not open_without:
            raise Unauthorized("set METRICS_TOKEN and give it as a bearer token", code="metrics_token_unset")
        if token and not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
            raise Unauthorized("give METRICS_TOKEN as a bearer token", code="metrics_token_invalid")
        with lock:
            unaccounted = 0
            for lane in (RELAY, BILLING):
                audit = outbox.audit(lane)
                unaccounted += audit.unaccounted
                metrics.record_outbox(
                    lane,
                    waiting=audit.waiting + audit.in_flight,
                    late_seconds=audit.late_ms / 1000,
                    accepted=audit.accepted,
                    delivered=audit.delivered,
                    dead=audit.dead,
                    lost=audit.lost,
                )
            metrics.record_unaccounted(unaccounted)
            metrics.record_endpoints_disabled(mirror.disabled_endpoints())
            return Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE)


def _answer_error(error: Exception) -> Response:
    headers: dict[str, str] = {}
    if isinstance(error, SwitchhookError):
        known = error
    elif isinstance(error, HTTPException):
        known = _HttpError(error)
        headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    else:
        logs.failure("request_failed", error)
        known = SwitchhookError()
    refuse = envelope if request.path.startswith(CANARY_PREFIX) else problem
    body, content_type = refuse(known)
    return Response(body, status=known.status, content_type=content_type, headers=retry_after(known) | headers)


class _HttpError(SwitchhookError):
    """An error of the HTTP layer itself: no such path, method not allowed."""

    def __init__(self, error: HTTPException) -> None:
        super().__init__(error.description, code=(error.name or "error").lower().replace(" ", "_"))
        self.status = error.code or 500  # type: ignore[misc]
