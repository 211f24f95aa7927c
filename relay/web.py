"""The web process: ingress, health and metrics in one Flask application, served by granian."""

from __future__ import annotations

from typing import Final

import redis
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import NotFound as WerkzeugNotFound

from relay import memory
from relay.agents.clients import Clients
from relay.agents.sessions import Sessions
from relay.agents.signed_urls import SignedUrls
from relay.agents.sync import Sync
from relay.api.core.families import family_of
from relay.api.core.gates import Gates
from relay.api.core.idempotency import Idempotency
from relay.api.core.limits import RateLimit
from relay.api.core.services import Services
from relay.api.core.serving import add_operations
from relay.api.routes import operations
from relay.bodies import closing
from relay.connections import postgres_engine, redis_client
from relay.delivery import USER_AGENT
from relay.delivery.caller import Caller
from relay.delivery.transport import Transport
from relay.directory import Directory, Mirror
from relay.errors import SettingsError, SwitchhookError
from relay.ingress import canonical, webhooks
from relay.ingress.commit import GroupCommit
from relay.ingress.context import Contexts
from relay.ingress.intake import Intake
from relay.ingress.matching import Matching
from relay.ingress.pressure import PressureGauge
from relay.ingress.routing import IngressApp
from relay.outbox import Accepted, Outbox, fitness
from relay.outbox.ring import Bell
from relay.problems import envelope, retry_after
from relay.provisioning import Provisioning
from relay.queues import celery_app
from relay.recordings.intake import RecordingIntake
from relay.request_ids import REQUEST_ID, new_request_id
from relay.scrape import Scrape, add_metrics
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store.database import Database
from relay.telemetry import logs
from relay.telemetry import port as metrics_port
from relay.telemetry.exchange import Exchange
from relay.telemetry.publisher import Publisher

CANARY_WEBHOOKS: Final = "/api/convagents/webhook/"
_NO_PATH: Final = "there is nothing at this path: look at it again, and at the form of the ids in it"
_RESOURCES: Final = "switchhook-resources"
# A Postgres that hangs holds its connections; whoever else wants one is told so while senders still wait.
_POSTGRES_WAIT_SECONDS: Final = 3.0


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI application. Connections are made on first use, so that it can be imported before servers are up."""
    settings = settings or Settings.from_environ()
    logs.configure(settings.log_level)
    # A connection for each thread: waiting for one would look like a Redis that does not answer.
    client = redis_client(settings, max_connections=settings.blocking_threads + 16)
    ring = KeyRing(settings.keys)
    mirror = Mirror(client, ring)
    database = Database(postgres_engine(settings, wait_seconds=_POSTGRES_WAIT_SECONDS))
    directory = Directory(mirror, ring, database)
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
    app = IngressApp("switchhook", hot_endpoint=webhooks.HOT_ENDPOINT)
    app.config["SWITCHHOOK_MAX_BODY"] = settings.max_body_bytes
    app.extensions[webhooks.EXTENSION] = Intake(settings, ring, directory, commits, is_ours=outbox.knows)
    caller = Caller(lambda: Transport(allow=settings.egress_allow, ca_file=settings.ca_file, user_agent=USER_AGENT))
    app.extensions[webhooks.CONTEXTS] = Contexts(Matching(directory), caller)
    app.register_blueprint(webhooks.blueprint)
    app.register_blueprint(canonical.blueprint)
    clients = Clients(settings, database, ring)
    sync = Sync(settings, database, ring, mirror, clients)
    services = Services(
        settings=settings,
        client=client,
        database=database,
        ring=ring,
        mirror=mirror,
        outbox=outbox,
        provisioning=Provisioning(settings, database, ring, mirror, outbox),
        clients=clients,
        sync=sync,
        sessions=Sessions(database, ring, mirror, clients, sync),
        signed_urls=SignedUrls(database, ring, mirror, clients),
        recordings=RecordingIntake(settings, ring, directory, commit=commits.commit),
        gates=Gates(threads=settings.blocking_threads),
        limit=RateLimit(client, per_minute=settings.requests_per_minute),
        idempotency=Idempotency(client, ring),
        commit=commits.commit,
    )
    add_operations(app, operations(), services)
    _add_health(app, client)
    add_metrics(app, Scrape(settings, Exchange(client), outbox, mirror), settings)
    app.register_error_handler(Exception, _answer_error)
    app.extensions[_RESOURCES] = (caller, database, client)
    return app


def close(app: Flask) -> None:
    """Release the connections and threads of an application that serves no more. A process that ends need not."""
    for resource in app.extensions[_RESOURCES]:
        resource.close()


def create_serving_app() -> Flask:
    """The application of a process that serves it: it publishes its samples, and has its own port for them if asked."""
    settings = Settings.from_environ()
    app = create_app(settings)
    memory.settle()
    Publisher.of(settings, "web").start()
    try:
        metrics_port.serve(settings)
    except SettingsError:
        # It was free when web started. Taking webhooks does not wait for whoever has it now.
        logs.alarm("metrics_port_taken", port=settings.metrics_port)
    return app


def serve(settings: Settings, *, port: int | None = None, descriptor: int | None = None) -> None:
    """Serve until SIGTERM, on HOST and PORT or on the listening socket that was inherited under `descriptor`.

    Raises SettingsError for a Redis that cannot be an outbox, when the port is taken, or when nothing was inherited.
    """
    from relay import server  # noqa: PLC0415  only the serving process needs granian

    logs.configure(settings.log_level)
    fitness.require(redis_client(settings))
    if descriptor is None:
        listening = server.listen(settings.host, port or settings.port)
    else:
        listening = server.inherit(descriptor)
    metrics_port.check(settings)
    server.run(create_serving_app, listening, settings)


def _add_health(app: Flask, client: redis.Redis) -> None:
    @app.get("/livez")
    def livez() -> Response:
        """This process answers."""
        return _said(b"ok\n")

    @app.get("/readyz")
    def readyz() -> Response:
        """This process can take webhooks: Redis answers."""
        try:
            client.ping()
        except redis.RedisError:
            return _said(b"redis does not answer\n", status=503)
        return _said(b"ok\n")


def _said(text: bytes, *, status: int = 200) -> Response:
    return Response(text, status=status, content_type="text/plain", headers={REQUEST_ID: new_request_id()})


def _answer_error(error: Exception) -> Response:
    headers: dict[str, str] = {}
    request_id = new_request_id()
    if isinstance(error, SwitchhookError):
        known = error
    elif isinstance(error, HTTPException):
        known = _HttpError(error)
        headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    else:
        logs.failure("request_failed", error, request_id=request_id)
        known = SwitchhookError()
    refuse = envelope if request.path.startswith(CANARY_WEBHOOKS) else family_of(request.path).refuse
    body, content_type = refuse(known)
    headers |= {REQUEST_ID: request_id} | retry_after(known) | closing(request.environ)
    return Response(body, status=known.status, content_type=content_type, headers=headers)


class _HttpError(SwitchhookError):
    """An error of the HTTP layer itself: no such path, method not allowed."""

    def __init__(self, error: HTTPException) -> None:
        # Werkzeug's own text is for people who type into a browser. An id of the wrong form matches no route either.
        said = _NO_PATH if isinstance(error, WerkzeugNotFound) else error.description
        super().__init__(said, code=(error.name or "error").lower().replace(" ", "_"))
        self.status = error.code or 500  # type: ignore[misc]
