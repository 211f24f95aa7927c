"""Retell's REST API (paths and fields of the official Python package 6.2.13; api.retellai.com)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from relay.calls import MAX_FACT_CHARS
from relay.errors import ProviderFailed
from relay.providers import retell
from relay.providers.records import CallRecord, records
from relay.providers.rest.client import Rest, segment
from relay.providers.retell import ACCOUNT_LABEL
from relay.settings import ProviderAccess

T = TypeVar("T")
# As long as a fact may be.
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_FACT_CHARS)]


# Which of Retell's web clients can use the token: 2.x joins a room with it, 3.x goes through Retell's gateway.
WebCallVersion = Literal[2, 3]
_CREATE: Final[dict[WebCallVersion, str]] = {2: "/v2/create-web-call", 3: "/v3/create-web-call"}


class IceServer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a browser is to be told of a STUN or TURN server; `credential` is a secret."""

    urls: str | list[str]
    username: str | None = None
    credential: str | None = None

    def __repr__(self) -> str:
        return "<IceServer>"


class WebCall(msgspec.Struct, frozen=True, kw_only=True):
    """A web call that a browser may join with the token, which is a secret.

    Version 3 tells how it connects, too, and until when (Unix milliseconds); version 2 the agent's version.
    """

    call_id: _Id
    access_token: str
    transport: str | None = None
    ice_servers: tuple[IceServer, ...] = ()
    expires_at: int | None = None
    agent_version: int | None = None

    def __repr__(self) -> str:
        return f"<WebCall {self.call_id}>"


class CallPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some calls, oldest first: of each what may be kept, nothing that was said. `pagination_key` None on the last."""

    items: tuple[CallRecord, ...]
    pagination_key: str | None = None


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    items: tuple[msgspec.Raw, ...]
    has_more: bool
    pagination_key: str | None = None

    def __repr__(self) -> str:
        return "<_Page>"


class Retell:
    """Calls of one workspace. What it begins is labelled with `account_id`."""

    def __init__(self, access: ProviderAccess, *, account_id: str = "") -> None:
        self._rest = Rest(access.base_url, headers={"Authorization": f"Bearer {access.api_key}"})
        self._account_id = account_id

    def create_web_call(
        self,
        agent_id: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        dynamic_variables: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
        version: WebCallVersion = 3,
    ) -> WebCall:
        """Begin a web call with an agent. `metadata` and variables come back in the call's webhooks.

        `more` is what else Retell's `create-web-call` takes. Raises ProviderFailed, ProviderUnavailable.
        """
        label = {ACCOUNT_LABEL: self._account_id} if self._account_id else {}
        wish: dict[str, Any] = {**(more or {}), "agent_id": agent_id, "metadata": {**(metadata or {}), **label}}
        if dynamic_variables:
            wish["retell_llm_dynamic_variables"] = dict(dynamic_variables)
        return _read(self._rest.fetch("POST", _CREATE[version], json=wish), WebCall)

    def call(self, call_id: str) -> bytes:
        """A call as JSON, with all that was said: the caller has to hold it as Content at once.

        Raises ProviderFailed, ProviderUnavailable.
        """
        return self._rest.fetch("GET", f"/v2/get-call/{segment(call_id)}")

    def calls(
        self, *, since_ms: int, until_ms: int | None = None, limit: int = 100, pagination_key: str | None = None
    ) -> CallPage:
        """Calls that began at `since_ms` (Unix) or later, and up to `until_ms`: metadata only.

        What else the answer holds never becomes an object; a call that cannot be read is left out. Raises
        ProviderFailed, ProviderUnavailable.
        """
        began: dict[str, Any] = {"type": "number", "op": "ge", "value": since_ms}
        if until_ms is not None:
            began = {"type": "range", "op": "bt", "value": [since_ms, until_ms]}
        wish: dict[str, Any] = {
            "filter_criteria": {"start_timestamp": began},
            "sort_order": "ascending",
            "limit": limit,
        }
        if pagination_key is not None:
            wish["pagination_key"] = pagination_key
        page = _read(self._rest.fetch("POST", "/v3/list-calls", json=wish), _Page)
        found = records(page.items, retell.record)
        return CallPage(items=found, pagination_key=page.pagination_key if page.has_more else None)


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ProviderFailed("Retell's API answered with something else than it documents") from None
