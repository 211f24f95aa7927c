"""Flask, with a shortcut to the route that nearly every request takes.

Werkzeug's matcher leaves eight objects in a reference cycle behind each request, which only Python's collector frees,
and that stops every thread while it looks. And matching costs as much as proving the sender.
"""

from __future__ import annotations

from typing import Any, Final

from flask import Flask, Request, Response
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter, RoutingException, Rule

from relay.request_ids import REQUEST_ID, new_request_id

_PREFIX: Final = "/api/v1/webhooks/"
_PATH: Final = f"{_PREFIX}<provider>/<source_id>"


class IngressApp(Flask):
    """Finds `POST /api/v1/webhooks/<provider>/<source>` by itself, and everything else as Flask does."""

    def __init__(self, name: str, *, hot_endpoint: str) -> None:
        super().__init__(name, static_folder=None)
        self._hot_endpoint = hot_endpoint
        self._hot_rule: Rule | None = None

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """What matches this request's URL."""
        if request is not None and request.method == "POST":
            args = _args(request.environ.get("PATH_INFO", ""))
            if args is not None:
                return _Matched(self._rule(), args)
        return super().create_url_adapter(request)

    def make_default_options_response(self) -> Response:
        """What is answered to OPTIONS."""
        return _named(super().make_default_options_response())

    def handle_http_exception(self, e: HTTPException) -> Any:
        """An error of HTTP itself as it is answered; Flask leaves a redirect to a path without `//` as it is."""
        answer = super().handle_http_exception(e)
        return _named(self.make_response(answer)) if isinstance(e, RoutingException) else answer

    def _rule(self) -> Rule:
        if self._hot_rule is None:
            (rule,) = self.url_map.iter_rules(self._hot_endpoint)
            if rule.rule != _PATH:
                raise RuntimeError(f"the shortcut leads to {_PATH}, and the route is {rule.rule}")
            self._hot_rule = rule
        return self._hot_rule


def _named(response: Response) -> Response:
    response.headers[REQUEST_ID] = new_request_id()
    return response


class _Matched(MapAdapter):
    """An adapter that has its answer. It builds no URLs; nothing here asks for any."""

    def __init__(self, rule: Rule, args: dict[str, str]) -> None:
        self._result = rule, args

    def match(self, *_: Any, **__: Any) -> Any:
        """The rule and the arguments of its view."""
        return self._result


def _args(path: str) -> dict[str, str] | None:
    """The view's arguments, if this is certainly its path: two parts of plain ASCII behind the prefix. Pure."""
    if not path.startswith(_PREFIX) or not path.isascii():
        return None
    provider, separator, source_id = path[len(_PREFIX) :].partition("/")
    if not (provider and separator and source_id) or "/" in source_id:
        return None
    return {"provider": provider, "source_id": source_id}
