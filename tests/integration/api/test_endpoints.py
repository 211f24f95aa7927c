"""`/api/v1/endpoints`: where deliveries go, changed while they go there."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from relay.directory import Mirror
from relay.outbox import Outbox
from relay.outbox.outcomes import OutcomeReader
from relay.queues import RELAY
from relay.sealing import KeyRing
from relay.store import endpoints, sealed, templates
from relay.store.sealed import Target
from tests.integration.api.conftest import Api
from tests.receiver import Post, Receiver
from tests.waiting import eventually
from workers import expiry
from workers.deliver import DeliveryThread
from workers.record import RecordLane

PATH = "/api/v1/endpoints"
URL = "http://127.0.0.1:9/hook"
NEW = "whsec_" + base64.b64encode(b"n" * 32).decode()


def create(api: Api, url: str = URL, **body: Any) -> dict[str, Any]:
    """A new endpoint with its secrets."""
    answer = api.post(PATH, {"url": url} | body)
    assert answer.status_code == 201, answer.get_json()
    made: dict[str, Any] = answer.get_json()
    return made


def send_test(api: Api, endpoint_id: str) -> str:
    """The id of a test event that is on its way."""
    answer = api.post(f"{PATH}/{endpoint_id}/test")
    assert answer.status_code == 202, answer.get_json()
    sent: str = answer.get_json()["id"]
    return sent


def recorded(api: Api) -> None:
    """Record all that has happened."""
    lane = RecordLane(OutcomeReader(api.redis, consumer="test"), api.database, on_gone=lambda *_: None)
    while lane.step():
        pass


def deliveries(api: Api, endpoint_id: str) -> list[tuple[str, str, str | None]]:
    """Event, status and code of each recorded delivery."""
    recorded(api)
    with api.database.begin() as connection:
        found = connection.execute(
            text("SELECT event_id, status, code FROM deliveries WHERE endpoint_id = :id ORDER BY accepted_at"),
            {"id": endpoint_id},
        )
        return [(row.event_id, row.status, row.code) for row in found]


def signed_by(post: Post, secret: str) -> bool:
    """Whether one of a delivery's signatures is made with this secret (Standard Webhooks 1.0)."""
    signed = f"{post.event_id}.{post.headers['webhook-timestamp']}.".encode() + post.body
    digest = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), signed, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}" in post.headers["webhook-signature"].split()


def test_shows_its_secrets_once(api: Api) -> None:
    """In the answer that makes it; afterwards neither they nor the values of its headers."""
    made = create(api, headers={"X-Api-Key": "for-their-server"})
    secrets = {made.pop("webhookSecret"), made.pop("signingSecret"), "for-their-server"}
    assert made.pop("createdAt").endswith("Z")
    assert made == {
        "id": made["id"],
        "url": URL,
        "state": "active",
        "events": ["*"],
        "headerNames": ["X-Api-Key"],
        "signing": "standard",
        "deadlineSeconds": 15,
        "retentionHours": None,
        "failureWhen": None,
        "operations": False,
        "sourceId": None,
        "templateId": None,
        "disabledAt": None,
        "overlapUntil": None,
    }
    for path in (PATH, f"{PATH}/{made['id']}"):
        shown = api.get(path).get_data(as_text=True)
        assert made["id"] in shown
        assert [secret for secret in secrets if secret in shown] == []


def test_takes_every_field(api: Api) -> None:
    """At the edges of what it may be."""
    source = api.post("/api/v1/sources", {"provider": "retell", "secrets": ["s"]}).get_json()["id"]
    given = {
        "events": ["retell.call_analyzed", "elevenlabs.*"],
        "signing": "provider",
        "deadlineSeconds": 20,
        "retentionHours": 720,
        "failureWhen": "$.error",
        "sourceId": source,
        "webhookSecret": "w" * 255,
        "signingSecret": NEW,
    }
    made = create(api, **given)
    assert {name: made[name] for name in given} == given


WRONG = [
    ({"url": "http://10.0.0.1/"}, "url"),
    ({"url": "ftp://example.com/"}, "url"),
    ({"url": ""}, "url"),
    ({"url": "http://127.0.0.1/" + "x" * 2048}, "url"),
    ({"url": None}, "url"),
    ({"events": []}, "events"),
    ({"events": ["x"] * 65}, "events"),
    ({"events": ["x" * 257]}, "events.0"),
    ({"events": ["a\tb"]}, "events"),
    ({"events": ["bad filter"]}, "events"),
    ({"events": ["nosuch.event"]}, "events"),
    ({"events": ["retell"]}, "events"),
    ({"events": ["retell."]}, "events"),
    ({"events": ["retell.a b"]}, "events"),
    ({"headers": {"Host": "x"}}, "headers"),
    ({"headers": {"X-A": "a\r\nb"}}, "headers"),
    ({"headers": {f"X-{number}": "x" for number in range(33)}}, "headers"),
    ({"headers": {"X-A": 1}}, "headers.X-A"),
    ({"signing": "both"}, "signing"),
    ({"deadlineSeconds": 0}, "deadlineSeconds"),
    ({"deadlineSeconds": 21}, "deadlineSeconds"),
    ({"retentionHours": -1}, "retentionHours"),
    ({"retentionHours": 721}, "retentionHours"),
    ({"failureWhen": "error"}, "failureWhen"),
    ({"failureWhen": "$" + ".a" * 9}, "failureWhen"),
    ({"state": "disabled"}, "state"),
]


@pytest.mark.parametrize(("body", "field"), WRONG)
def test_wrong_endpoints_are_refused(api: Api, body: dict[str, Any], field: str) -> None:
    """By the name of the field, made or changed; nothing is stored."""
    answer = api.post(PATH, {"url": URL} | body)
    assert (answer.status_code, answer.get_json()["field"]) == (400, field)
    assert api.get(PATH).get_json()["data"] == []
    made = create(api)
    changed = api.patch(f"{PATH}/{made['id']}", body)
    assert (changed.status_code, changed.get_json()["field"]) == (400, field)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"signingSecret": "short"}, "signingSecret"),
        ({"webhookSecret": "schl\u00fcssel"}, "webhookSecret"),
        ({"webhookSecret": "w" * 256}, "webhookSecret"),
    ],
)
def test_wrong_secrets_are_refused(api: Api, body: dict[str, Any], field: str) -> None:
    """When it is made; they are changed by a rotation only."""
    answer = api.post(PATH, {"url": URL} | body)
    assert (answer.status_code, answer.get_json()["field"]) == (400, field)
    assert api.patch(f"{PATH}/{create(api)['id']}", body).get_json()["issues"][0]["code"] == "extra_forbidden"


@pytest.mark.parametrize("source", ["src_" + "a" * 26, "nobodys"])
def test_an_endpoint_of_nobodys_source_is_not_made(api: Api, source: str) -> None:
    """404, as for the source of another account."""
    assert api.post(PATH, {"url": URL, "sourceId": source}).status_code == 404
    theirs = api.post("/api/v1/sources", {"provider": "retell", "secrets": ["s"]}, key=api.other.key).get_json()["id"]
    assert api.post(PATH, {"url": URL, "sourceId": theirs}).status_code == 404
    assert api.get(PATH).get_json()["data"] == []


def test_an_unknown_source_is_named(api: Api) -> None:
    """As what is not there; another account's, and one that was deleted, are no other."""
    source = {"provider": "retell", "secrets": ["s"]}
    theirs = api.post("/api/v1/sources", source, key=api.other.key).get_json()["id"]
    gone = api.post("/api/v1/sources", source).get_json()["id"]
    api.delete(f"/api/v1/sources/{gone}")
    for source_id in ("src_unknown", theirs, gone):
        refused = api.post(PATH, {"url": URL, "sourceId": source_id}).get_json()
        assert (refused["status"], refused["code"], refused["field"]) == (404, "not_found", "sourceId")
        assert "source" in refused["detail"]


def test_what_is_checked_late_is_told_as_what_is_checked_early(api: Api) -> None:
    """A `validation_error` with its issues, whichever of the two it was."""
    for body in ({"events": ["nosuch.event"]}, {"webhookSecret": "\u00e4"}, {"deadlineSeconds": 0}):
        refused = api.post(PATH, {"url": URL, **body}).get_json()
        (issue,) = refused["issues"]
        assert (refused["code"], issue["path"]) == ("validation_error", next(iter(body)))
        assert issue["message"] in refused["detail"]


def test_changes_what_is_given(api: Api) -> None:
    """And leaves the rest; null takes back what may be absent."""
    made = create(api, headers={"X-A": "1"}, retentionHours=5, failureWhen="$.error")
    path = f"{PATH}/{made['id']}"
    expected = api.get(path).get_json()
    assert api.patch(path, {}).get_json() == expected
    changes: tuple[dict[str, Any], ...] = (
        {"url": "http://127.0.0.1:9/other"},
        {"events": ["retell.*"]},
        {"signing": "provider"},
        {"deadlineSeconds": 5},
        {"retentionHours": None},
        {"failureWhen": None},
    )
    for change in changes:
        expected |= change
        assert api.patch(path, change).get_json() == expected
    assert api.patch(path, {"headers": {"X-B": "2"}}).get_json()["headerNames"] == ["X-B"]
    with api.database.begin() as connection:
        ring = KeyRing(api.settings.keys)
        row = endpoints.get(connection, ring, account_id=api.account.id, endpoint_id=made["id"])
    assert (row.headers, row.webhook_secret) == ({"X-B": "2"}, made["webhookSecret"])


def test_a_test_event_goes_to_this_endpoint_only(api: Api, receiver: Receiver, courier: DeliveryThread) -> None:
    """On the way of every delivery, signed, whatever the filter takes; it is no call, and nothing is charged."""
    made = create(api, receiver.url, events=["retell.call_analyzed"], headers={"X-Own": "yes"})
    create(api, f"{receiver.url}/elsewhere")
    event_id = send_test(api, made["id"])
    courier.wake()
    (post,) = receiver.await_posts(1)
    assert (post.event_id, post.path, post.headers["x-own"]) == (event_id, "/hook", "yes")
    assert post.headers["switchhook-event"] == "switchhook.test"
    assert signed_by(post, made["signingSecret"])
    body = json.loads(post.body)
    assert (body["type"], body["endpointId"], body["livemode"]) == ("switchhook.test", made["id"], False)

    eventually(lambda: deliveries(api, made["id"])[0][1] == "delivered", within_seconds=10, what="recorded")
    with api.database.begin() as connection:
        livemode = connection.execute(text("SELECT livemode FROM events WHERE id = :id"), {"id": event_id}).scalar_one()
        sessions = connection.execute(text("SELECT count(*) FROM sessions")).scalar_one()
    assert (livemode, sessions) == (False, 0)
    assert Outbox(api.redis).audit("billing").accepted == 0


def test_a_test_event_of_a_templates_endpoint_is_in_the_envelope(
    api: Api, receiver: Receiver, courier: DeliveryThread
) -> None:
    """As everything is that goes there."""
    ring = KeyRing(api.settings.keys)
    with api.database.begin() as connection:
        made = templates.create(
            connection,
            ring,
            account_id=api.account.id,
            name="Survey",
            type="interview",
            config={},
            client_webhook_url=receiver.url,
        )
    Mirror(api.redis, ring).publish(api.database, api.account.id)
    assert made.endpoint is not None
    send_test(api, made.endpoint.id)
    courier.wake()
    (post,) = receiver.await_posts(1)
    body = json.loads(post.body)
    assert (body["event"], body["templateName"]) == ("event", "Survey")
    assert body["data"]["type"] == "switchhook.test"
    refused = api.delete(f"{PATH}/{made.endpoint.id}")
    assert (refused.status_code, refused.get_json()["code"]) == (409, "endpoint_of_template")
    refused = api.post(f"{PATH}/{made.endpoint.id}/rotate", {"webhookSecret": True})
    assert (refused.status_code, refused.get_json()["code"]) == (409, "endpoint_of_template")
    rotated = api.post(f"{PATH}/{made.endpoint.id}/rotate")
    assert "webhookSecret" not in rotated.get_json()
    assert made.endpoint.webhook_secret not in rotated.get_data(as_text=True)


def test_a_templates_content_is_kept_as_long_as_the_template_says(api: Api) -> None:
    """Its endpoint cannot say otherwise; the same again, and everything else, may be given."""
    template = {"name": "T", "type": "conversation", "provider": "agora", "systemPrompt": "x", "clientWebhookUrl": URL}
    made = api.post("/api/convagents/templates", template | {"contentRetention": 24}).get_json()["data"]
    path = f"{PATH}/{made['endpointId']}"
    for hours in (0, None):
        refused = api.patch(path, {"retentionHours": hours}).get_json()
        assert (refused["status"], refused["code"], refused["field"]) == (409, "endpoint_of_template", "retentionHours")
    changed = api.patch(path, {"retentionHours": 24, "deadlineSeconds": 5}).get_json()
    assert (changed["retentionHours"], changed["deadlineSeconds"]) == (24, 5)


def test_a_disabled_endpoint_takes_no_test(api: Api) -> None:
    """409, until it is enabled again."""
    made = create(api)
    off = api.post(f"{PATH}/{made['id']}/disable").get_json()
    assert (off["state"], off["disabledAt"] is None) == ("disabled", False)
    refused = api.post(f"{PATH}/{made['id']}/test")
    assert (refused.status_code, refused.get_json()["code"]) == (409, "endpoint_disabled")
    on = api.post(f"{PATH}/{made['id']}/enable").get_json()
    assert (on["state"], on["disabledAt"]) == ("active", None)
    send_test(api, made["id"])


def test_an_account_over_its_quota_sends_no_test(api: Api) -> None:
    """It waits in line with everything else."""
    made = create(api)
    api.redis.set(f"sw:bytes:{api.account.id}", api.settings.account_quota_bytes)
    answer = api.post(f"{PATH}/{made['id']}/test")
    assert (answer.status_code, answer.get_json()["code"]) == (503, "over_quota")


def test_the_old_secret_signs_beside_the_new_one(api: Api, receiver: Receiver, courier: DeliveryThread) -> None:
    """Until the overlap is over and upkeep has been round; then the new one signs alone."""
    made = create(api, receiver.url)
    path, old = f"{PATH}/{made['id']}", made["signingSecret"]
    rotated = api.post(f"{path}/rotate", {"overlapHours": 2}).get_json()
    new = rotated["signingSecret"]
    assert (new != old, "webhookSecret" in rotated) == (True, False)
    until = datetime.fromisoformat(rotated["overlapUntil"])
    assert timedelta(minutes=119) < until - datetime.now(UTC) <= timedelta(hours=2)

    send_test(api, made["id"])
    courier.wake()
    post = receiver.await_posts(1)[0]
    assert (signed_by(post, new), signed_by(post, old)) == (True, True)

    ring = KeyRing(api.settings.keys)
    mirror = Mirror(api.redis, ring)
    expiry.end_what_is_over(mirror, api.database, ring)
    assert api.get(path).get_json()["overlapUntil"] is not None
    with api.database.begin() as connection:
        connection.execute(
            text("UPDATE endpoints SET overlap_until = now() - interval '1 second' WHERE id = :id"), {"id": made["id"]}
        )
    assert expiry.end_what_is_over(mirror, api.database, ring) == 1
    assert api.get(path).get_json()["overlapUntil"] is None
    send_test(api, made["id"])
    courier.wake()
    post = receiver.await_posts(2)[1]
    assert (signed_by(post, new), signed_by(post, old)) == (True, False)
    assert expiry.end_what_is_over(mirror, api.database, ring) == 0


def test_a_second_rotation_keeps_the_first_ones_promise(api: Api) -> None:
    """A repeat after a lost answer would stop the old secret, which a receiver may go by until then: 409 says when."""
    made = create(api)
    path = f"{PATH}/{made['id']}/rotate"
    first = api.post(path, {"overlapHours": 1}).get_json()
    for again in ({}, {"overlapHours": 2}, {"webhookSecret": True}):
        refused = api.post(path, again)
        told = refused.get_json()
        assert (refused.status_code, told["code"], told["field"]) == (409, "rotation_under_way", "overlapHours")
        assert first["overlapUntil"] in told["detail"]
    assert _stored(api, made["id"]).signing_secrets == (first["signingSecret"], made["signingSecret"])
    assert api.get(f"{PATH}/{made['id']}").get_json()["overlapUntil"] == first["overlapUntil"]

    with api.database.begin() as connection:
        over = text("UPDATE endpoints SET overlap_until = now() - interval '1 second' WHERE id = :id")
        connection.execute(over, {"id": made["id"]})
    second = api.post(path).get_json()
    assert _stored(api, made["id"]).signing_secrets == (second["signingSecret"], first["signingSecret"])


def test_a_rotation_may_be_at_once(api: Api) -> None:
    """Without an overlap, for a secret that leaked; the webhook secret is replaced if that is asked for."""
    made = create(api)
    path = f"{PATH}/{made['id']}/rotate"
    assert api.post(path).get_json()["overlapUntil"] is not None
    rotated = api.post(path, {"overlapHours": 0, "webhookSecret": True}).get_json()
    assert rotated["overlapUntil"] is None
    assert rotated["webhookSecret"] != made["webhookSecret"]
    row = _stored(api, made["id"])
    assert (row.signing_secrets, row.webhook_secret) == ((rotated["signingSecret"],), rotated["webhookSecret"])
    for wrong in ({"overlapHours": 169}, {"overlapHours": -1}, {"overlapHours": "2"}):
        assert api.post(path, wrong).get_json()["field"] == "overlapHours"


def test_a_repeated_request_shows_the_same_secrets(api: Api) -> None:
    """Whoever did not get the first answer asks again with its Idempotency-Key; one endpoint is made."""
    headers = {"Idempotency-Key": "make-it-once"}
    first, again = (api.post(PATH, {"url": URL}, headers=headers) for _ in range(2))
    assert again.get_json() == first.get_json()
    assert len(api.get(PATH).get_json()["data"]) == 1


def test_what_waits_for_a_deleted_endpoint_ends(api: Api, receiver: Receiver, courier: DeliveryThread) -> None:
    """As dead, at once, also what had failed and waited for hours; records stay, and nothing new goes there."""
    receiver.usual_reply(503)
    made = create(api, receiver.url)
    path = f"{PATH}/{made['id']}"
    event_id = send_test(api, made["id"])
    courier.wake()
    receiver.await_posts(1)
    line = f"sw:line:{RELAY}:{made['id']}"
    eventually(lambda: api.redis.zcard(line), within_seconds=10, what="the next attempt waits")
    api.redis.zadd(line, {event_id: int(datetime.now(UTC).timestamp() * 1000) + 3_600_000})

    assert api.delete(path).status_code == 204
    courier.wake()
    gone = [(event_id, "dead", "endpoint_gone")]
    eventually(lambda: deliveries(api, made["id"]) == gone, within_seconds=10, what="it ends")
    assert len(receiver.posts) == 1
    assert Outbox(api.redis).audit(RELAY).unaccounted == 0

    for method, where, body in (
        ("GET", path, None),
        ("PATCH", path, {"events": ["*"]}),
        ("POST", f"{path}/enable", None),
        ("POST", f"{path}/disable", None),
        ("POST", f"{path}/rotate", {}),
        ("POST", f"{path}/test", None),
        ("DELETE", path, None),
    ):
        assert api.call(method, where, body).status_code == 404
    assert api.get(PATH).get_json()["data"] == []
    with api.database.begin() as connection:
        found = text("SELECT sealed_config FROM endpoints WHERE id = :id")
        raw = connection.execute(found, {"id": made["id"]}).scalar_one()
    kept = sealed.unseal(KeyRing(api.settings.keys), raw, Target, purpose=sealed.ENDPOINT, row_id=made["id"])
    assert (kept.url, kept.webhook_secret, kept.signing_secrets, kept.headers) == ("", "", (), {})
    webhook = {"event": "call_analyzed", "call": {"call_id": "c", "duration_ms": 1000}}
    api.client.post("/api/v1/webhooks/retell", json=webhook, headers={"X-Canonical-Api-Key": api.account.key})
    assert deliveries(api, made["id"]) == gone


def test_a_reading_key_only_looks(api: Api) -> None:
    """It changes nothing, and sends nothing."""
    made = create(api)
    path, reading = f"{PATH}/{made['id']}", api.account.reading_key
    before = api.get(path, key=reading).get_json()
    for method, where, body in (
        ("POST", PATH, {"url": URL}),
        ("PATCH", path, {"deadlineSeconds": 5}),
        ("POST", f"{path}/enable", None),
        ("POST", f"{path}/disable", None),
        ("POST", f"{path}/rotate", {}),
        ("POST", f"{path}/test", None),
        ("DELETE", path, None),
    ):
        assert api.call(method, where, body, key=reading).status_code == 403
    assert api.get(PATH).get_json()["data"] == [before]


def test_endpoints_of_another_account_are_not_there(api: Api) -> None:
    """Neither seen nor changed, rotated, tested or deleted."""
    made = create(api)
    path = f"{PATH}/{made['id']}"
    before = api.get(path).get_json()
    for method, where, body in (
        ("GET", path, None),
        ("PATCH", path, {"deadlineSeconds": 5}),
        ("POST", f"{path}/enable", None),
        ("POST", f"{path}/disable", None),
        ("POST", f"{path}/rotate", {}),
        ("POST", f"{path}/test", None),
        ("DELETE", path, None),
    ):
        assert api.call(method, where, body, key=api.other.key).status_code == 404
    assert api.get(path).get_json() == before
    assert api.get(PATH, key=api.other.key).get_json()["data"] == []
    assert not api.redis.exists(f"sw:line:{RELAY}:{made['id']}")


def test_pages_of_endpoints(api: Api) -> None:
    """The oldest first, each once, though one is deleted between two pages."""
    made = [create(api)["id"] for _ in range(4)]
    first = api.get(PATH, query_string={"limit": "2"}).get_json()
    api.delete(f"{PATH}/{made[1]}")
    second = api.get(PATH, query_string={"limit": "2", "cursor": first["nextCursor"]}).get_json()
    assert [one["id"] for one in (*first["data"], *second["data"])] == made
    assert second["nextCursor"] is None


def _stored(api: Api, endpoint_id: str) -> endpoints.Endpoint:
    """The endpoint with its secrets: what its deliveries are signed with, the newest first."""
    with api.database.begin() as connection:
        ring = KeyRing(api.settings.keys)
        return endpoints.get(connection, ring, account_id=api.account.id, endpoint_id=endpoint_id)
