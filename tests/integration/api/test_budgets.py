"""`/api/v1/budgets`: made, shown, changed, deleted; told of at operations endpoints; kept to where sessions begin."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text

from relay.directory import Directory, Mirror
from relay.errors import Unavailable
from relay.notices import Notices
from relay.outbox import Accepted, Admission, Outbox
from relay.outbox.outcomes import OutcomeReader
from relay.sealing import KeyRing
from relay.settings import ProviderAccess, Settings
from relay.store import notices as kept
from relay.store import rate_cards, tables
from relay.store.database import Database
from tests.fakes.agora import FakeAgora
from tests.fakes.elevenlabs import KEY, FakeElevenLabs
from tests.fakes.retell import FakeRetell
from tests.integration.api.conftest import Api
from tests.receiver import Post, Receiver
from tests.waiting import eventually
from workers.notices import tell_accounts
from workers.record import RecordLane

pytestmark = pytest.mark.usefixtures("day_that_goes_on")

PATH = "/api/v1/budgets"
APPID = "0123456789abcdef0123456789abcdef"
AGENT = {"channel": "c", "token": "t", "agent_rtc_uid": "1", "remote_rtc_uids": ["*"]} | {
    "llm": {"url": "https://llm.example/v1"},
    "tts": {"vendor": "microsoft", "params": {"key": "k", "region": "eastus", "voice_name": "v"}},
}


@pytest.fixture(scope="module")
def retell() -> Iterator[FakeRetell]:
    """Retell."""
    with FakeRetell() as fake:
        yield fake


@pytest.fixture(scope="module")
def agora() -> Iterator[FakeAgora]:
    """Agora."""
    with FakeAgora() as fake:
        yield fake


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings, eleven: FakeElevenLabs, retell: FakeRetell, agora: FakeAgora) -> Settings:
    """The API with keys of ours at every provider."""
    return replace(
        api_settings,
        elevenlabs=ProviderAccess(base_url=eleven.url, api_key=KEY),
        retell=ProviderAccess(base_url=retell.url, api_key=retell.key),
        agora=ProviderAccess(base_url=agora.url, api_key="customer:secret"),
    )


@pytest.fixture(autouse=True)
def _only_this_tests_budgets(api_database: Database) -> None:
    """Whoever looks at budgets looks at all that there are."""
    with api_database.begin() as connection:
        connection.execute(text("UPDATE budgets SET deleted_at = now() WHERE deleted_at IS NULL"))
        connection.execute(text("DELETE FROM notices"))


def create(api: Api, amount: str = "100", **body: Any) -> dict[str, Any]:
    """A new budget."""
    answer = api.post(PATH, {"amount": amount} | body)
    assert answer.status_code == 201, answer.get_json()
    made: dict[str, Any] = answer.get_json()
    return made


def a_price(api: Api, per_minute: str = "1") -> None:
    """The account's first rate card."""
    with api.database.begin() as connection:
        rate_cards.add(connection, api.account.id, per_minute=Decimal(per_minute))


def spend(api: Api, amount: str, *, tag: str = "") -> None:
    """Calls that have ended, as billing sums them."""
    with api.database.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO usage_quarters AS u (account_id, quarter, provider, tag, status, currency, amount)
                VALUES (:account, date_trunc('hour', now()), 'retell', :tag, 'completed', 'USD', :amount)
                ON CONFLICT (account_id, quarter, provider, template_id, tag, status, currency)
                    DO UPDATE SET amount = u.amount + EXCLUDED.amount
            """),
            {"account": api.account.id, "tag": tag, "amount": Decimal(amount)},
        )


def audited(api: Api) -> list[str]:
    """What was done to budgets, in order."""
    with api.database.begin() as connection:
        rows = connection.execute(
            select(tables.audit.c.action, tables.audit.c.actor)
            .where(tables.audit.c.account_id == api.account.id, tables.audit.c.action.like("budget.%"))
            .order_by(tables.audit.c.id)
        ).all()
    assert {row.actor for row in rows} <= {api.account.key_id}
    return [row.action for row in rows]


def test_a_budget_shows_how_it_stands(api: Api) -> None:
    """What is spent, held back and told of in this month, beside what was given."""
    made = create(api, "250.5", tag="support", thresholds=[100, 10], hardLimit=True)
    assert made == {
        "id": made["id"],
        "tag": "support",
        "amount": "250.50",
        "currency": None,
        "thresholds": [10, 100],
        "hardLimit": True,
        "month": f"{datetime.now(UTC):%Y-%m}",
        "spent": "0.00",
        "reserved": "0.00",
        "percent": 0,
        "told": [],
        "createdAt": made["createdAt"],
        "updatedAt": made["createdAt"],
    }
    a_price(api)
    spend(api, "25.05", tag="support")
    spend(api, "7")
    whole = create(api, "64.10")
    shown = api.get(f"{PATH}/{made['id']}").get_json()
    assert (shown["spent"], shown["percent"], shown["currency"]) == ("25.05", 10, "USD")
    listed = api.get(PATH, key=api.account.reading_key).get_json()
    assert listed == {"data": [shown, whole], "nextCursor": None}
    assert (whole["thresholds"], whole["spent"], whole["percent"]) == ([50, 80, 100], "32.05", 50)
    assert audited(api) == ["budget.created", "budget.created"]


def test_lists_page_by_page(api: Api) -> None:
    """In the order in which they were made."""
    made = [create(api, tag=f"tag {number}")["id"] for number in range(5)]
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api.get(f"{PATH}?limit=2" + (f"&cursor={cursor}" if cursor else "")).get_json()
        found += [one["id"] for one in page["data"]]
        cursor = page["nextCursor"]
    assert found == made


def test_is_changed_and_deleted(api: Api) -> None:
    """What is given is changed; a deleted one is not there, and there may be another of its tag."""
    made = create(api, tag="support")
    path = f"{PATH}/{made['id']}"
    changed = api.patch(path, {"amount": "5", "hardLimit": True}).get_json()
    assert changed | {"updatedAt": made["updatedAt"]} == made | {"amount": "5.00", "hardLimit": True}
    assert changed["updatedAt"] > made["updatedAt"]
    assert api.patch(path, {"thresholds": [1]}).get_json()["thresholds"] == [1]
    assert api.delete(path).status_code == 204
    for method, body in (("GET", None), ("PATCH", {"amount": "1"}), ("DELETE", None)):
        assert api.call(method, path, body).status_code == 404
    create(api, tag="support")
    assert audited(api) == [
        "budget.created", "budget.updated", "budget.updated", "budget.deleted", "budget.created"
    ]  # fmt: skip


def test_there_is_one_of_each_tag(api: Api) -> None:
    """And one of the whole account."""
    for tag in (None, "support"):
        create(api, tag=tag)
        answer = api.post(PATH, {"amount": "1", "tag": tag})
        assert (answer.status_code, answer.get_json()["code"]) == (409, "budget_exists")


def test_two_that_are_made_at_once_are_one(api: Api) -> None:
    """Whoever comes second is told so."""
    with ThreadPoolExecutor(4) as pool:
        clients = [replace(api, client=api.client.application.test_client()) for _ in range(4)]
        statuses = sorted(pool.map(lambda one: one.post(PATH, {"amount": "1"}).status_code, clients))
    assert statuses == [201, 409, 409, 409]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "amount"),
        ({"amount": "0"}, "amount"),
        ({"amount": "0.000000"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": 5}, "amount"),
        ({"amount": "1.0000001"}, "amount"),
        ({"amount": "1", "thresholds": []}, "thresholds"),
        ({"amount": "1", "thresholds": [50, 50]}, "thresholds"),
        ({"amount": "1", "thresholds": [0]}, "thresholds.0"),
        ({"amount": "1", "thresholds": [1001]}, "thresholds.0"),
        ({"amount": "1", "thresholds": ["50"]}, "thresholds.0"),
        ({"amount": "1", "thresholds": list(range(1, 22))}, "thresholds"),
        ({"amount": "1", "tag": ""}, "tag"),
        ({"amount": "1", "tag": "a\nb"}, "tag"),
        ({"amount": "1", "tag": "a" * 257}, "tag"),
        ({"amount": "1", "hardLimit": "yes"}, "hardLimit"),
        ({"amount": "1", "currency": "USD"}, "currency"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_field(api: Api, body: dict[str, Any], field: str) -> None:
    """And nothing is made."""
    answer = api.post(PATH, body)
    assert (answer.status_code, answer.get_json()["field"]) == (400, field)
    assert api.get(PATH).get_json()["data"] == []


def test_an_account_has_no_more_than_may_be_looked_at(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """All budgets are looked at every minute."""
    monkeypatch.setattr("relay.provisioning.budgets.MAX_BUDGETS", 2)
    create(api, tag="a")
    create(api, tag="b")
    answer = api.post(PATH, {"amount": "1"})
    assert (answer.status_code, answer.get_json()["code"]) == (409, "too_many_budgets")


# Where sessions begin


def a_template(api: Api, **fields: Any) -> int:
    if "agentId" in fields:
        api.grant(fields["provider"], fields["agentId"])
    wanted = {"name": "T", "type": "conversation", "systemPrompt": "Be kind.", "tag": "support"} | fields
    answer = api.post("/api/convagents/templates", wanted)
    assert answer.status_code == 201, answer.get_data(as_text=True)
    made: int = answer.get_json()["data"]["id"]
    return made


def refusals(api: Api, agent_id: str, template_id: int) -> Iterator[tuple[str, Any, str]]:
    """What every way to begin a conversation answers, and where its dialect has the code and the text."""
    mine = {"templateId": template_id}
    call = {"agent_id": f"agent_{api.account.id}"}
    key, key_id = api.account.key, api.account.key_id
    basic = base64.b64encode(f"{key_id}:{key}".encode()).decode()
    conversation = {"voice_id": "v", "system_prompt": "Be kind."}
    join = f"/api/conversational-ai-agent/v2/projects/{APPID}/join"
    yield "canary", api.post("/api/convagents/sessions", mine), "error"
    yield "canary", api.post("/api/agents/signed-url", {"agentId": agent_id}), "error"
    url = f"/v1/convai/conversation/get-signed-url?agent_id={agent_id}"
    yield "elevenlabs", api.get(url, key="", headers={"xi-api-key": key}), "detail"
    yield "retell", api.post("/v3/create-web-call", call), "message"
    yield "retell", api.post("/v2/create-web-call", call), "message"
    yield "ours", api.post("/v1/conversations/create", conversation), "detail"
    wish = {"name": "agent", "properties": AGENT}
    yield "agora", api.post(join, wish, key="", headers={"Authorization": f"Basic {basic}"}), "detail"


def test_every_way_to_begin_a_conversation_asks_first(
    api: Api, eleven: FakeElevenLabs, retell: FakeRetell, agora: FakeAgora
) -> None:
    """402 in each dialect, with the budget's name and what it has left; no provider is asked, and no session there."""
    a_price(api)
    api.grant("agora", APPID)
    template_id = a_template(api)
    started = api.post("/api/convagents/sessions", {"templateId": template_id})
    assert started.status_code == 201
    with api.database.begin() as connection:
        agent_id = connection.execute(
            select(tables.templates.c.agent_id).where(tables.templates.c.id == template_id)
        ).scalar_one()
        held = text("UPDATE sessions SET reserved = 0, url_expires_at = now() WHERE account_id = :id")
        connection.execute(held, {"id": api.account.id})
    budget = create(api, "9.99", hardLimit=True)["id"]
    a_template(api, provider="retell", agentId=f"agent_{api.account.id}")
    asked = len(eleven.requests), len(retell.requests), len(agora.requests)
    found = list(refusals(api, agent_id, template_id))
    assert asked == (len(eleven.requests), len(retell.requests), len(agora.requests))
    for dialect, answer, place in found:
        assert answer.status_code == 402, (dialect, answer.get_data(as_text=True))
        told = answer.get_json()
        said = json.dumps(told[place])
        assert f"budget {budget} of the account has 9.99 USD left" in said
        assert "may cost 10.00 USD" in said
        code = {
            "canary": told.get("code", "").lower(),
            "elevenlabs": told["detail"]["status"] if dialect == "elevenlabs" else "",
            "agora": told.get("reason", ""),
        }.get(dialect, told.get("code"))
        assert code == ("ResourceQuotaLimitExceeded" if dialect == "agora" else "budget_exceeded")
    with api.database.begin() as connection:
        ours = select(tables.sessions.c.id).where(tables.sessions.c.account_id == api.account.id)
        assert len(connection.execute(ours).all()) == 1
    signed = {"agentId": agent_id, "sessionId": started.get_json()["data"]["session"]["id"]}
    assert api.post("/api/agents/signed-url", signed).status_code == 200  # what is held back for it was counted


def test_what_is_held_back_for_a_session_opens_its_own_conversation_alone(api: Api, eleven: FakeElevenLabs) -> None:
    """No other agent's; none once it has begun, and none when nobody waits for it any more."""
    a_price(api)
    cheap, dear = a_template(api, maxDurationSeconds=60), a_template(api, maxDurationSeconds=3600)
    for template_id in (cheap, dear):  # so that each has its agent
        assert api.post("/api/convagents/sessions", {"templateId": template_id}).status_code == 201
    with api.database.begin() as connection:
        connection.execute(text("UPDATE sessions SET reserved = NULL WHERE account_id = :id"), {"id": api.account.id})
    create(api, "1", hardLimit=True)
    started = api.post("/api/convagents/sessions", {"templateId": cheap}).get_json()["data"]["session"]
    with api.database.begin() as connection:  # the signed URL that came with it has expired
        expired = text("UPDATE sessions SET url_expires_at = now() WHERE account_id = :id")
        connection.execute(expired, {"id": api.account.id})

    def signed(template_id: int) -> int:
        this = tables.templates.c.id == template_id
        with api.database.begin() as connection:
            agent_id = connection.execute(select(tables.templates.c.agent_id).where(this)).scalar_one()
        return api.post("/api/agents/signed-url", {"agentId": agent_id, "sessionId": started["id"]}).status_code

    assert [signed(template_id) for template_id in (cheap, dear)] == [200, 404]
    for change in ("status = 'active'", "status = 'pending', created_at = now() - interval '121 minutes'"):
        with api.database.begin() as connection:
            connection.execute(text(f"UPDATE sessions SET {change} WHERE account_id = :id"), {"id": api.account.id})
        if "pending" in change:
            spend(api, "1")
        assert signed(cheap) == 402


def test_a_session_that_its_provider_does_not_take_gives_back_what_was_held(api: Api, retell: FakeRetell) -> None:
    """The next one finds all of it."""
    a_price(api)
    create(api, "10", hardLimit=True)
    agent_id = f"agent_{api.account.id}"
    a_template(api, provider="retell", agentId=agent_id)
    retell.fail_next(400, times=1)
    assert api.post("/v3/create-web-call", {"agent_id": agent_id}).status_code == 502
    assert api.post("/v3/create-web-call", {"agent_id": agent_id}).status_code == 201
    shown = api.get(PATH).get_json()["data"][0]
    assert (shown["reserved"], shown["spent"]) == ("10.00", "0.00")
    assert api.post("/v3/create-web-call", {"agent_id": agent_id}).status_code == 402


def test_webhooks_are_taken_whatever_the_budgets_are(api: Api) -> None:
    """What was begun is relayed and charged."""
    a_price(api)
    spend(api, "100")
    create(api, "1", hardLimit=True)
    call = {"event": "call_analyzed", "call": {"call_id": "call_1", "duration_ms": 91_000}}
    headers = {"X-Canonical-Api-Key": api.account.key}
    assert api.post("/api/v1/webhooks/retell", call, key="", headers=headers).status_code == 200


# At operations endpoints


class DyingOutbox(Outbox):
    """Takes what it is given, and then its process dies before anybody is told."""

    def accept(self, admissions: Any) -> Accepted:
        super().accept(admissions)
        raise Unavailable


class RecordingOutbox(Outbox):
    """Remembers what it was given."""

    seen: list[Admission]

    def accept(self, admissions: Any) -> Accepted:
        self.seen.extend(admissions)
        return super().accept(admissions)


def notices(api: Api, outbox: Outbox | None = None) -> Notices:
    """What a worker sends with."""
    ring = KeyRing(api.settings.keys)
    directory = Directory(Mirror(api.redis, ring), ring, api.database)
    return Notices(api.settings, ring, api.database, directory, outbox or Outbox(api.redis))


def waiting(api: Api) -> int:
    with api.database.begin() as connection:
        return len(kept.due(connection, limit=100))


def an_endpoint(api: Api, url: str, **fields: Any) -> dict[str, Any]:
    answer = api.post("/api/v1/endpoints", {"url": url} | fields)
    assert answer.status_code == 201, answer.get_json()
    made: dict[str, Any] = answer.get_json()
    return made


def is_signed(post: Post, secret: str) -> bool:
    """Whether it is signed as Standard Webhooks 1.0 has it."""
    signed = f"{post.event_id}.{post.headers['webhook-timestamp']}.".encode() + post.body
    digest = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), signed, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}" == post.headers["webhook-signature"]


@pytest.mark.usefixtures("courier")
def test_an_alert_reaches_the_operations_endpoint_once(api: Api, receiver: Receiver) -> None:
    """Signed, as JSON of ours, with an id of its own; though a worker dies in between, and several look at once."""
    a_price(api)
    operations = an_endpoint(api, f"{receiver.url}/operations", operations=True)
    an_endpoint(api, f"{receiver.url}/calls")
    budget = create(api, "10", thresholds=[80])
    spend(api, "8.4")
    with pytest.raises(Unavailable):
        tell_accounts(api.database, notices(api, DyingOutbox(api.redis)))
    assert waiting(api) == 1
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: tell_accounts(api.database, notices(api)), range(8)))
    assert waiting(api) == 0
    (post,) = eventually(lambda: receiver.posts, within_seconds=10, what="the alert")
    body = json.loads(post.body)
    assert body == {
        "type": "switchhook.budget.alert",
        "livemode": True,
        "budgetId": budget["id"],
        "tag": None,
        "month": budget["month"],
        "threshold": 80,
        "amount": "10.00",
        "spent": "8.40",
        "currency": "USD",
        "at": body["at"],
    }
    assert (post.path, post.headers["switchhook-event"]) == ("/hook/operations", "switchhook.budget.alert")
    assert post.headers["switchhook-occurred-at"] == body["at"]
    assert is_signed(post, operations["signingSecret"])
    assert api.get(f"{PATH}/{budget['id']}").get_json()["told"] == [80]
    record = RecordLane(OutcomeReader(api.redis, consumer="test"), api.database, on_gone=lambda *_: None)

    def listed() -> Any:
        while record.step():
            pass
        rows = api.get("/api/v1/deliveries").get_json()["data"]
        return rows if [one for one in rows if one["status"] == "delivered"] else None

    (delivery,) = eventually(listed, within_seconds=10, what="the delivery")
    assert (delivery["type"], delivery["eventId"]) == ("switchhook.budget.alert", post.event_id)
    assert delivery["endpointId"] == operations["id"]
    with api.database.begin() as connection:
        ours = select(tables.sessions.c.id).where(tables.sessions.c.account_id == api.account.id)
        assert connection.execute(ours).all() == []
    assert len(receiver.posts) == 1


def test_calls_do_not_go_to_operations_nor_budgets_to_who_takes_calls(api: Api) -> None:
    """Each event has the endpoints of its kind."""
    a_price(api)
    operations = an_endpoint(api, "http://127.0.0.1:9/operations", operations=True)
    calls = an_endpoint(api, "http://127.0.0.1:9/calls")
    create(api, "1")
    spend(api, "0.5")
    outbox = RecordingOutbox(api.redis)
    outbox.seen = []
    tell_accounts(api.database, notices(api, outbox))
    assert [[unit.key for unit in one.units] for one in outbox.seen] == [[operations["id"]]]
    call = {"event": "call_analyzed", "call": {"call_id": "call_1", "duration_ms": 91_000}}
    headers = {"X-Canonical-Api-Key": api.account.key}
    assert api.post("/api/v1/webhooks/retell", call, key="", headers=headers).status_code == 200
    record = RecordLane(OutcomeReader(api.redis, consumer="test"), api.database, on_gone=lambda *_: None)
    while record.step():
        pass
    rows = {one["type"]: one["endpointId"] for one in api.get("/api/v1/deliveries").get_json()["data"]}
    assert rows == {"switchhook.budget.alert": operations["id"], "retell.call_analyzed": calls["id"]}


def test_without_an_operations_endpoint_an_alert_is_shown_and_goes_nowhere(api: Api) -> None:
    """It is not kept for one that is made later."""
    a_price(api)
    budget = create(api, "1", thresholds=[50])
    spend(api, "0.5")
    tell_accounts(api.database, notices(api))
    assert waiting(api) == 0
    assert api.get(f"{PATH}/{budget['id']}").get_json()["told"] == [50]


def test_an_account_over_its_quota_keeps_no_other_waiting(api: Api) -> None:
    """Its notice is tried again later."""
    for account, limit in ((api.account, 1), (api.other, None)):
        with api.database.begin() as connection:
            if limit is not None:
                values = {"quota_bytes": limit, "config_version": 7}
                connection.execute(tables.accounts.update().where(tables.accounts.c.id == account.id).values(values))
            kept.add(connection, account_id=account.id, kind="statement.closed", subject="S-1", body={"number": "S-1"})
    mine = {"url": "http://127.0.0.1:9/operations", "operations": True}
    assert {api.post("/api/v1/endpoints", mine, key=one.key).status_code for one in (api.account, api.other)} == {201}
    assert notices(api).send(limit=10) == 1
    with api.database.begin() as connection:
        (row,) = connection.execute(select(tables.notices)).mappings()
    assert row["account_id"] == api.account.id
    assert row["due_at"] > datetime.now(UTC)


def test_the_same_notice_is_told_once(api: Api) -> None:
    """By what it is about; with another key it is another."""
    with api.database.begin() as connection:
        ids = [
            kept.add(connection, account_id=api.account.id, kind="statement.closed", subject="S-1", key=key, body={})
            for key in (None, "S-1", "S-2")
        ]
    assert (ids[0] == ids[1], len(set(ids)), waiting(api)) == (True, 2, 2)


# Endpoints for operations


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"operations": True, "events": ["retell.*"]}, "events"),
        ({"operations": True, "events": ["*", "elevenlabs.complete"]}, "events"),
        ({"events": ["switchhook.*"]}, "events"),
        ({"operations": "yes"}, "operations"),
        ({"operations": True, "sourceId": "src_" + "a" * 26}, "operations"),
    ],
)
def test_an_endpoint_takes_calls_or_is_for_operations(api: Api, body: dict[str, Any], field: str) -> None:
    """What can never come is refused."""
    answer = api.post("/api/v1/endpoints", {"url": "http://127.0.0.1:9/"} | body)
    assert (answer.status_code, answer.get_json()["field"]) == (400, field)


def test_an_endpoint_is_changed_to_operations_and_back(api: Api) -> None:
    """Its filter has to go with it."""
    made = an_endpoint(api, "http://127.0.0.1:9/", events=["retell.*"])
    path = f"/api/v1/endpoints/{made['id']}"
    refused = api.patch(path, {"operations": True})
    assert (refused.status_code, refused.get_json()["field"]) == (400, "events")
    changed = api.patch(path, {"operations": True, "events": ["switchhook.budget.*"]}).get_json()
    assert (changed["operations"], changed["events"]) == (True, ["switchhook.budget.*"])
    assert api.patch(path, {"operations": False}).status_code == 400
    assert api.patch(path, {"operations": False, "events": ["*"]}).get_json()["operations"] is False


def test_all_that_an_endpoint_for_operations_takes_is_ours(api: Api) -> None:
    """Whichever way it becomes one: its filters say so to versions that know of no operations."""
    made = an_endpoint(api, "http://127.0.0.1:9/1", operations=True)
    changed = an_endpoint(api, "http://127.0.0.1:9/2")
    answer = api.patch(f"/api/v1/endpoints/{changed['id']}", {"operations": True}).get_json()
    assert (made["events"], answer["events"]) == (["switchhook.*"], ["switchhook.*"])


def test_an_endpoint_of_a_template_stays_with_its_calls(api: Api) -> None:
    """It is not the account's."""
    template_id = a_template(api, clientWebhookUrl="http://127.0.0.1:9/")
    with api.database.begin() as connection:
        found = select(tables.templates.c.endpoint_id).where(tables.templates.c.id == template_id)
        endpoint_id = connection.execute(found).scalar_one()
    answer = api.patch(f"/api/v1/endpoints/{endpoint_id}", {"operations": True})
    assert (answer.status_code, answer.get_json()["field"]) == (400, "operations")
