"""One object of each kind that the API has ids for, belonging to an account; and all that an account has."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any

import redis
from sqlalchemy import Connection, select
from werkzeug.test import TestResponse

from relay.api.core.access import Access
from relay.api.core.operations import Operation
from relay.outbox import Outbox
from relay.outbox.outcomes import OutcomeReader
from relay.settings import ProviderAccess, Settings
from relay.store import tables
from relay.store.database import Database
from tests.fakes.agora import FakeAgora
from tests.fakes.elevenlabs import KEY, FakeElevenLabs
from tests.fakes.retell import FakeRetell
from tests.integration.api.conftest import Api, Customer
from tests.integration.api.requests import OPERATIONS, body_of, fields_of, headers_of, path_of
from tests.integration.billing.months import Books
from workers.charge import ChargeLane
from workers.record import RecordLane

Ids = dict[str, str]
AGORA = "/api/conversational-ai-agent/v2/projects/<appid>"
APPID = "0123456789abcdef0123456789abcdef"
HOOK = "http://127.0.0.1:9/hook"
# Of the operator, not of an account.
NOBODYS_TABLES = {"document_numbers"}
# The month of a closed statement, as examples name it.
MONTH = "2026-02"
URLS = ("url", "location", "clientWebhookUrl", "relayUrl")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Fakes:
    """The providers."""

    elevenlabs: FakeElevenLabs
    agora: FakeAgora
    retell: FakeRetell

    def reached_by(self, settings: Settings) -> Settings:
        """Settings that lead to them; nobody counts the requests of the API."""
        return replace(
            settings,
            requests_per_minute=1_000_000,
            elevenlabs=ProviderAccess(base_url=self.elevenlabs.url, api_key=KEY),
            agora=ProviderAccess(base_url=self.agora.url, api_key="customer:secret"),
            retell=ProviderAccess(base_url=self.retell.url, api_key=self.retell.key),
        )

    def asked(self) -> int:
        """How many requests they have had."""
        return sum(len(fake.requests) for fake in (self.elevenlabs, self.agora, self.retell))


@contextmanager
def fake_providers() -> Iterator[Fakes]:
    """Them, for as long as the block runs."""
    with FakeElevenLabs() as elevenlabs, FakeAgora() as agora, FakeRetell() as retell:
        yield Fakes(elevenlabs, agora, retell)


@contextmanager
def recording(database: Database, client: redis.Redis) -> Iterator[None]:
    """Record what is accepted, as a worker does, for as long as the block runs."""
    ended = threading.Event()
    lane = RecordLane(OutcomeReader(client, consumer="block"), database, on_gone=lambda *_: None)

    def record() -> None:
        while not ended.wait(0.01):
            lane.step()

    thread = threading.Thread(target=record)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


# One of each


def _made(answer: TestResponse) -> dict[str, Any]:
    assert answer.status_code in (200, 201), answer.get_data(as_text=True)
    made: dict[str, Any] = answer.get_json()
    return made


def _like_its_example(api: Api, owner: Customer, key: str, **more: Any) -> dict[str, Any]:
    """What an operation makes of the example of its body, with other fields."""
    operation = OPERATIONS[key]
    path, headers = path_of(operation, {"appid": APPID}), headers_of(operation, owner.key, owner.key_id)
    return _made(api.call(operation.method, path, body_of(operation) | more, key="", headers=headers))


def a_key(api: Api, owner: Customer) -> Ids:
    """An API key."""
    return {"key_id": _like_its_example(api, owner, "POST /api/v1/keys")["id"]}


def a_provider_key(api: Api, owner: Customer) -> Ids:
    """A key of the account's own at ElevenLabs."""
    _made(api.put("/api/v1/provider-keys/elevenlabs", {"key": KEY}, key=owner.key))
    return {"provider": "elevenlabs"}


def a_source(api: Api, owner: Customer) -> Ids:
    """A source."""
    return {"source_id": _like_its_example(api, owner, "POST /api/v1/sources")["id"]}


def an_endpoint(api: Api, owner: Customer) -> Ids:
    """An endpoint."""
    return {"endpoint_id": _like_its_example(api, owner, "POST /api/v1/endpoints", url=HOOK)["id"]}


def a_budget(api: Api, owner: Customer) -> Ids:
    """A budget."""
    tag = f"tag {next(_numbers)}"
    return {"budget_id": _like_its_example(api, owner, "POST /api/v1/budgets", tag=tag)["id"]}


def a_delivery(api: Api, owner: Customer) -> Ids:
    """A delivery with an attempt that failed, and its event with its content in the outbox."""
    ids = an_endpoint(api, owner)
    _made(_accepted(api, owner))
    with api.database.begin() as connection:
        found = select(tables.deliveries).where(tables.deliveries.c.endpoint_id == ids["endpoint_id"])
        row = connection.execute(found).mappings().one()
        attempt = {name: row[name] for name in ("event_id", "endpoint_id", "day")}
        tried = {"number": 1, "at": row["accepted_at"], "code": "http_500", "http_status": 500}
        connection.execute(tables.attempts.insert().values(attempt | tried))
    return ids | {"event_id": row["event_id"]}


def a_session(api: Api, owner: Customer) -> Ids:
    """A session that somebody's call began, with its content in the outbox."""
    an_endpoint(api, owner)
    _made(_accepted(api, owner))
    with api.database.begin() as connection:
        found = select(tables.sessions.c.id).where(tables.sessions.c.account_id == owner.id)
        return {"session_id": str(connection.execute(found).scalars().first())}


def _accepted(api: Api, owner: Customer) -> TestResponse:
    """A webhook of a call that has ended: taken, recorded, and charged as far as there is a rate card."""
    call = {"event": "call_analyzed", "call": {"call_id": f"call_{next(_numbers)}", "duration_ms": 91_000}}
    answer = api.post("/api/v1/webhooks/retell", call, key="", headers={"X-Canonical-Api-Key": owner.key})
    record = RecordLane(OutcomeReader(api.redis, consumer="tests"), api.database, on_gone=lambda *_: None)
    for lane in (record, ChargeLane(Outbox(api.redis), api.database)):
        while lane.step():
            pass
    return answer


def a_template(api: Api, owner: Customer) -> Ids:
    """A template with its agent at ElevenLabs."""
    made = _like_its_example(api, owner, "POST /api/convagents/templates", clientWebhookUrl=HOOK)
    return {"template_id": str(made["data"]["id"]), "webhook_secret": made["data"]["webhookSecret"]}


def a_started_session(api: Api, owner: Customer) -> Ids:
    """A session that the API made, of a template."""
    ids = a_template(api, owner)
    made = _like_its_example(api, owner, "POST /api/convagents/sessions", templateId=int(ids["template_id"]))
    return ids | {"session_id": str(made["data"]["session"]["id"])}


def a_conversation(api: Api, owner: Customer) -> Ids:
    """A conversation with an agent of its own."""
    made = _like_its_example(api, owner, "POST /v1/conversations/create")
    return {"session_id": made["session_id"], "agent_id": made["agent_id"]}


def a_rate_card(api: Api, owner: Customer) -> Ids:
    """A rate card, which the operator has offered."""
    operation = OPERATIONS["POST /api/v1/accounts/<id:account_id>/rate-cards"]
    path = path_of(operation, {"account_id": owner.id})
    body = {name: value for name, value in body_of(operation).items() if name != "from"} | {"offered": True}
    return {"rate_card_id": _made(api.post(path, body, key=api.operator_key))["id"]}


def a_statement(api: Api, owner: Customer) -> Ids:
    """A closed statement of 60 USD."""
    own, month = Books(api.database, owner.id), date.fromisoformat(f"{MONTH}-01")
    own.card(per_minute=Decimal(60))
    own.talk((f"call_{next(_numbers)}", 60, month))
    own.close(month)
    return {"month": MONTH, "number": own.statement(month).number or ""}


def an_agora_agent(api: Api, owner: Customer) -> Ids:
    """An agent that has joined a channel at Agora."""
    api.grant("agora", APPID, to=owner)
    made = _like_its_example(api, owner, f"POST {AGORA}/join", name=f"agent_{next(_numbers)}")
    return {"appid": APPID, "agent_id": made["agent_id"]}


def a_template_of_retell(api: Api, owner: Customer) -> Ids:
    """A template with an agent at Retell."""
    wish = {"provider": "retell", "agentId": f"agent_{owner.id}_{next(_numbers)}"}
    api.grant("retell", wish["agentId"], to=owner)
    made = _like_its_example(api, owner, "POST /api/convagents/templates", clientWebhookUrl=HOOK, **wish)
    return {"template_id": str(made["data"]["id"]), "agent_id": wish["agentId"]}


def a_web_call(api: Api, owner: Customer) -> Ids:
    """A web call that was begun at Retell."""
    agent_id = a_template_of_retell(api, owner)["agent_id"]
    return {"call_id": _like_its_example(api, owner, "POST /v3/create-web-call", agent_id=agent_id)["call_id"]}


MAKERS: Mapping[str, Callable[[Api, Customer], Ids]] = {
    "/api/v1/keys/": a_key,
    "/api/v1/provider-keys/": a_provider_key,
    "/api/v1/sources/": a_source,
    "/api/v1/endpoints/": an_endpoint,
    "/api/v1/budgets/": a_budget,
    "/api/v1/deliveries/": a_delivery,
    "/api/v1/sessions/": a_session,
    "/api/convagents/templates/": a_template,
    "/api/convagents/sessions/": a_started_session,
    "/v1/conversations/": a_conversation,
    "/v2/get-call/": a_web_call,
    "/api/v1/statements/": a_statement,
    AGORA: an_agora_agent,
}


def maker_of(operation: Operation) -> Callable[[Api, Customer], Ids]:
    """What makes the object that the ids in an operation's path are of."""
    for prefix, maker in MAKERS.items():
        if operation.path.startswith(prefix):
            return maker
    raise AssertionError(f"{operation.path} has ids: add to MAKERS what makes an object of its kind")


Sent = dict[str, Any]
Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Inside:
    """A field of a body or query that names something: what makes that, and which of its ids it is.

    `refusal` is the answer where the account has nothing by this id: 400 says which field is wrong. `in_place_of` is
    a field of the example that does not go with it.
    """

    key: str
    make: Callable[[Api, Customer], Ids]
    field: str
    id: str
    refusal: int = 404
    in_place_of: str | None = None

    def naming(self, ids: Ids) -> Sent:
        """The field with the id."""
        replaced = {} if self.in_place_of is None else {self.in_place_of: None}
        return replaced | {self.field: int(ids[self.id]) if ids[self.id].isdigit() else ids[self.id]}


INSIDE = (
    Inside("POST /api/v1/endpoints", a_source, "sourceId", "source_id"),
    Inside("POST /api/convagents/sessions", a_template, "templateId", "template_id"),
    Inside("POST /api/convagents/templates", a_rate_card, "rateCard", "rate_card_id", refusal=400),
    Inside(
        "POST /api/v1/rate-cards/preview",
        a_rate_card,
        "rateCardId",
        "rate_card_id",
        refusal=400,
        in_place_of="perMinute",
    ),
    Inside("POST /api/convagents/templates", a_conversation, "agentId", "agent_id"),
    Inside("POST /api/agents/signed-url", a_conversation, "agentId", "agent_id"),
    Inside("GET /v1/convai/conversation/get-signed-url", a_conversation, "agent_id", "agent_id"),
    Inside("GET /v1/convai/conversation/get_signed_url", a_conversation, "agent_id", "agent_id"),
    Inside("POST /v3/create-web-call", a_template_of_retell, "agent_id", "agent_id"),
    Inside("POST /v2/create-web-call", a_template_of_retell, "agent_id", "agent_id"),
)


@dataclass(frozen=True, slots=True)
class Known:
    """Something that is there: the ids in a path, and the fields of a body or query that name it."""

    path: Ids = field(default_factory=dict)
    named: Sent = field(default_factory=dict)


def known_to(api: Api, operation: Operation) -> Known:
    """Something new of the caller's own that an operation may be about, and addresses that lead somewhere."""
    key = f"{operation.method} {operation.path}"
    urls = {name: HOOK for name in URLS if operation.body is not None and name in fields_of(operation.body)}
    if operation.access is Access.OPERATE:
        if key == "POST /api/v1/accounts/<id:account_id>/credit-notes":
            a_statement(api, api.account)
        return Known({"account_id": api.account.id, "month": MONTH})
    if key == f"POST {AGORA}/join":
        api.grant("agora", APPID)
    if "<" in operation.path:
        return Known(maker_of(operation)(api, api.account), named=urls)
    inside = next((one for one in INSIDE if one.key == key), None)
    return Known(named=urls if inside is None else urls | inside.naming(inside.make(api, api.account)))


# All of it


def rows_of(api: Api, account_id: str) -> Rows:
    """Every row that belongs to an account, by table."""
    with api.database.begin() as connection:
        owned = [name for name in tables.metadata.tables if name not in NOBODYS_TABLES]
        return {name: list(_rows(connection, name, account_id)) for name in owned}


def _rows(connection: Connection, name: str, account_id: str) -> Iterator[dict[str, Any]]:
    table = tables.metadata.tables[name]
    if name == "accounts":
        mine = table.c.id == account_id
    elif name == "attempts":
        owned = select(tables.deliveries.c.event_id).where(tables.deliveries.c.account_id == account_id)
        mine = table.c.event_id.in_(owned)
    elif name == "workspace_webhooks":
        owned = select(tables.sources.c.id).where(tables.sources.c.account_id == account_id)
        mine = table.c.source_id.in_(owned)
    else:
        mine = table.c.account_id == account_id
    for row in connection.execute(select(table).where(mine).order_by(*table.primary_key)).mappings():
        yield dict(row)


def outbox_of(api: Api) -> dict[bytes, bytes | None]:
    """Every key in Redis with its value, but for the counts of requests, and bells that a thread of its own rings."""
    moving = (b"sw:rate:", b"sw:samples", b"sw:celery", b"sw:ring:")
    names = [name for name in api.redis.scan_iter("sw:*") if not name.startswith(moving)]
    return {name: api.redis.dump(name) for name in sorted(names)}
