"""Operations as Flask routes: let in, count, read, run, answer. Every error is told in the family's words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from flask import Flask, Response, request
from pydantic import BaseModel, TypeAdapter
from werkzeug.routing import BaseConverter

from relay.api.core.access import Access, Caller, admitted
from relay.api.core.idempotency import Kept, fingerprint
from relay.api.core.models import Query, parsed_body, parsed_query
from relay.api.core.operations import MAX_BODY_BYTES, Answer, Call, Forms, Operation, Raw
from relay.api.core.services import Services
from relay.bodies import closing, read_body
from relay.content import Content
from relay.errors import SwitchhookError
from relay.problems import JSON, retry_after
from relay.request_ids import REQUEST_ID, new_request_id
from relay.telemetry import logs, metrics

_NO_BODY: Final = Content(b"")


class PublicId(BaseConverter):
    """An id such as `ep_...`: what is not shaped like one is not found, and never asked for."""

    regex = "[a-z]{2,5}_[a-z2-7]{26}"


class RowId(BaseConverter):
    """A positive whole number that fits a bigint and is exact in JSON."""

    regex = "[1-9][0-9]{0,15}"

    def to_python(self, value: str) -> int:
        """Text to int."""
        return int(value)


def add_operations(app: Flask, operations: Iterable[Operation], services: Services) -> None:
    """Serve these operations."""
    app.url_map.converters |= {"id": PublicId, "row": RowId}
    for operation in operations:
        view = _view(operation, services)
        # Werkzeug's routes take either plain requests or WebSockets.
        for is_websocket in (False, True) if operation.takes_websockets else (False,):
            app.add_url_rule(
                operation.path,
                endpoint=f"{operation.family.name}.{operation.name}",
                view_func=view,
                methods=[operation.method],
                websocket=is_websocket,
            )


class _View:
    """One operation as a view."""

    def __init__(self, operation: Operation, services: Services) -> None:
        self._operation = operation
        self._services = services
        self.__name__ = operation.name

    def __call__(self, **path: Any) -> Response:
        request_id = new_request_id()
        try:
            kept = self._answer(path)
        except SwitchhookError as error:
            kept = self._refused(error)
        except Exception as error:
            logs.failure("request_failed", error, request_id=request_id)
            kept = self._refused(SwitchhookError())
        metrics.record_api(self._operation.family.name, kept.status)
        headers = {**kept.headers, REQUEST_ID: request_id, "Cache-Control": "no-store", **closing(request.environ)}
        return Response(kept.body, status=kept.status, headers=headers)

    def _answer(self, path: dict[str, Any]) -> Kept:
        operation, services = self._operation, self._services
        credential = operation.family.credential(request)
        with services.gates.arrived(credential):
            caller = admitted(
                credential,
                operation.access,
                settings=services.settings,
                database=services.database,
                key_id=operation.family.key_id(request),
            )
            with services.gates.admitted(caller.account_id or caller.actor, is_slow=operation.is_slow):
                return self._admitted(caller, path)

    def _admitted(self, caller: Caller, path: dict[str, Any]) -> Kept:
        operation, services = self._operation, self._services
        if operation.access is not Access.PUBLIC:
            services.limit.spend(caller.actor, caller.account_id)
        # As content, because some of it is: a recording's address may carry a token.
        takes_body = operation.body is not None
        body = Content(read_body(request.environ, limit_bytes=MAX_BODY_BYTES)) if takes_body else _NO_BODY
        key = request.headers.get("Idempotency-Key")
        if key is None or not operation.is_repeatable:
            return self._run(caller, body, path)
        wanted = fingerprint(operation.method, request.path, body.reveal())
        kept, is_repeat = services.idempotency.once(
            caller.account_id or caller.actor, key, wanted, lambda: self._run(caller, body, path, wanted)
        )
        said = {"Idempotent-Replayed": "true"} if is_repeat else {}
        return msgspec.structs.replace(kept, headers=kept.headers | said)

    def _run(self, caller: Caller, body: Content, path: dict[str, Any], wanted: bytes = b"") -> Kept:
        operation = self._operation
        call = Call(
            caller=caller,
            services=self._services,
            body=None if operation.body is None else parsed_body(operation.body, body.reveal()),
            query=_query(operation),
            accept=request.accept_mimetypes,
        )
        made = operation.handler(call, **path)
        answer = made if isinstance(made, Answer) else Answer(made, operation.status)
        written = b"" if answer.payload is None else self._written(answer)
        headers = {"Content-Type": _content_type(operation, answer)} if written else {}
        return Kept(wanted, answer.status, {**headers, **answer.headers}, written)

    def _written(self, answer: Answer) -> bytes:
        kind = self._operation.answers.get(answer.status)
        kind = kind.model if isinstance(kind, Forms) else kind
        payload = answer.payload
        if isinstance(payload, bytes):
            return payload
        if isinstance(payload, BaseModel):
            payload = payload.model_dump(mode="json", by_alias=True)
        elif kind is not None:
            payload = TypeAdapter(kind).dump_python(payload, mode="json", by_alias=True)
        return msgspec.json.encode(self._operation.family.wrap(payload) if self._operation.is_wrapped else payload)

    def _refused(self, error: SwitchhookError) -> Kept:
        body, content_type = self._operation.family.refuse(error)
        return Kept(b"", error.status, {"Content-Type": content_type, **retry_after(error)}, body)


def _view(operation: Operation, services: Services) -> _View:
    return _View(operation, services)


def _content_type(operation: Operation, answer: Answer) -> str:
    kind = operation.answers.get(answer.status)
    if isinstance(kind, Forms) and isinstance(answer.payload, bytes):
        kind = kind.raw
    return kind.content_type if isinstance(kind, Raw) else JSON


def _query(operation: Operation) -> BaseModel | None:
    found = parsed_query(operation.query or Query, _pairs()) if operation.reads_query else None
    return None if operation.query is None else found


def _pairs() -> dict[str, str]:
    """The query, without the key that it may hold; the first of several values counts."""
    return {name: value for name, value in request.args.items() if name != "apiKey"}
