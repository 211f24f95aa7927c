"""The shortcut to the hot route: it finds what Flask finds, and leaves nothing to be collected."""

from __future__ import annotations

import gc

import pytest
from flask import Flask, Response, request
from flask.testing import FlaskClient

from relay.ingress.routing import IngressApp


def _with_routes(app: Flask) -> FlaskClient:
    @app.post("/api/v1/webhooks/<provider>/<source_id>", endpoint="hot")
    def hot(provider: str, source_id: str) -> list[str]:
        return [provider, source_id, request.path]

    @app.post("/api/v1/webhooks/retell")
    def keyed() -> Response:
        return Response(b"keyed")

    return app.test_client()


@pytest.fixture
def ours() -> FlaskClient:
    """The application with the shortcut."""
    return _with_routes(IngressApp("ours", hot_endpoint="hot"))


@pytest.fixture
def flasks() -> FlaskClient:
    """The same without it."""
    return _with_routes(Flask("flasks", static_folder=None))


@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS", "HEAD", "PUT"])
@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/webhooks/elevenlabs/src_1",
        "/api/v1/webhooks/elevenlabs/src_1?x=/y",
        "/api/v1/webhooks/elevenlabs/src%201",
        "/api/v1/webhooks/elevenlabs/src%2F1",
        "/api/v1/webhooks/elevenlabs/s%C3%BC",
        "/api/v1/webhooks/elevenlabs/%FF",
        "/api/v1/webhooks/elevenlabs/src_1/",
        "/api/v1/webhooks/elevenlabs/src_1/more",
        "/api/v1/webhooks/elevenlabs//src_1",
        "/api/v1/webhooks//src_1",
        "/api/v1/webhooks//",
        "/api/v1/webhooks/elevenlabs/",
        "/api/v1/webhooks/elevenlabs",
        "/api/v1/webhooks/retell",
        "/api/v1/webhooks/retell/src_1",
        "/api/v1/webhooks/",
        "/api/v1/webhooksx/a/b",
        "//api/v1/webhooks/a/b",
        "/API/v1/webhooks/a/b",
        "/other",
    ],
)
def test_answers_as_flask_does(ours: FlaskClient, flasks: FlaskClient, method: str, path: str) -> None:
    """Whatever the path and the method."""
    answer, usual = ours.open(path, method=method), flasks.open(path, method=method)
    assert (answer.status_code, answer.data) == (usual.status_code, usual.data)


def test_a_route_that_was_moved_is_not_served_at_its_old_address() -> None:
    """The shortcut has the path written a second time; the two must be the same."""
    app = IngressApp("ours", hot_endpoint="hot")
    app.add_url_rule("/api/v2/webhooks/<provider>/<source_id>", "hot", lambda **_: "", methods=["POST"])
    with pytest.raises(RuntimeError, match="/api/v2/webhooks"):
        app.test_client().post("/api/v1/webhooks/elevenlabs/src_1")


def test_leaves_no_cycle_behind(ours: FlaskClient) -> None:
    """What Python's collector has to find, it stops every thread for."""

    def left_by(path: str) -> int:
        environ = {"REQUEST_METHOD": "POST", "PATH_INFO": path, "SERVER_NAME": "x", "SERVER_PORT": "80"}
        environ |= {"wsgi.url_scheme": "http"}
        for _ in range(20):
            b"".join(ours.application(dict(environ), lambda *_: lambda _: None))
        return gc.collect()

    gc.disable()
    try:
        left_by("/api/v1/webhooks/retell")
        assert left_by("/api/v1/webhooks/elevenlabs/src_1") < 20
        assert left_by("/api/v1/webhooks/retell") >= 20  # Flask's own way does
    finally:
        gc.enable()
