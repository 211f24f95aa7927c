"""The whole loop over real processes: what is set up over HTTP, what the provider got, and every byte that comes back.

Nothing is assumed of what the provider was told: tools are called, and webhooks are signed and sent, by what the fakes
of ElevenLabs and Retell received.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import requests
from elevenlabs.client import ElevenLabs
from standardwebhooks import Webhook

from tests.acceptance.conftest import OPERATOR_KEY
from tests.fakes.elevenlabs import FakeElevenLabs
from tests.fakes.elevenlabs_state import Workspace
from tests.fakes.retell import FakeRetell
from tests.payloads import elevenlabs_headers, elevenlabs_transcription, retell_event, retell_headers
from tests.receiver import Post, Receiver
from tests.stack import Stack
from tests.waiting import eventually

_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Client:
    """A program that knows the API's address and its key, and nothing else."""

    url: str
    key: str
    account_id: str = ""

    def call(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """The JSON of an answer that has this status."""
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = requests.request(method, self.url + path, json=body, headers=headers, timeout=_SECONDS)
        assert answer.status_code == status, answer.text
        return answer.json()

    def data(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """The same without CanaryLLM's envelope."""
        answer = self.call(method, path, body, status=status)
        assert answer["success"] is True
        return answer["data"]


def new_customer(stack: Stack) -> Client:
    """An account at 0.10 USD a minute, made by the operator."""
    operator = Client(stack.url, OPERATOR_KEY)
    account = operator.call("POST", "/api/v1/accounts", {"name": "Acme"}, status=201)
    operator.call("POST", f"/api/v1/accounts/{account['id']}/rate-cards", {"perMinute": "0.10"}, status=201)
    return Client(stack.url, account["apiKey"], account["id"])


def use_tool(tool: Mapping[str, Any], variables: Mapping[str, str], said: Mapping[str, Any]) -> requests.Response:
    """Call a tool as ElevenLabs does: bound and constant values filled in, the rest as the agent says."""
    schema = tool["api_schema"]
    body: dict[str, Any] = {}
    for name, described in schema["request_body_schema"]["properties"].items():
        if "dynamic_variable" in described:
            body[name] = variables[described["dynamic_variable"]]
        elif "constant_value" in described:
            body[name] = described["constant_value"]
        elif name in said:
            body[name] = said[name]
    assert set(schema["request_body_schema"]["required"]) <= set(body)
    return requests.request(
        schema["method"], schema["url"], json=body, headers=schema["request_headers"], timeout=_SECONDS
    )


def tool_of(workspace: Workspace, agent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """One of the agent's own tools."""
    ids = agent["conversation_config"]["agent"]["prompt"]["tool_ids"]
    [tool] = [workspace.tools[tool_id] for tool_id in ids if workspace.tools[tool_id]["name"].endswith(f"_{name}")]
    return tool


def verified(post: Post, signing_secret: str) -> Any:
    """A delivery's body, once a verifier of Standard Webhooks has taken it."""
    return Webhook(signing_secret).verify(post.body, dict(post.headers))


def await_session(client: Client, session_id: int, status: str) -> Any:
    """The session as CanaryLLM's API shows it, once it has this status."""
    path = f"/api/convagents/sessions/{session_id}"

    def has_come() -> bool:
        return bool(client.data("GET", path)["session"]["status"] == status)

    eventually(has_come, within_seconds=_SECONDS, what=f"a session that is {status}")
    return client.data("GET", path)["session"]


def test_canaryllm_from_template_to_charge(stack: Stack, elevenlabs: FakeElevenLabs, receiver: Receiver) -> None:
    """A template over HTTP, its agent at ElevenLabs, a call with its tools, its webhook, one delivery, one charge."""
    client, workspace = new_customer(stack), elevenlabs.workspace
    template = client.data(
        "POST",
        "/api/convagents/templates",
        {
            "name": "Customer Interview",
            "type": "conversation",
            "systemPrompt": "Ask how it went.",
            "clientWebhookUrl": receiver.url,
        },
        status=201,
    )
    assert template["syncStatus"] == "synced"
    agent = workspace.agents[template["agentId"]]
    assert agent["conversation_config"]["agent"]["prompt"]["prompt"] == "Ask how it went."

    started = client.data(
        "POST", "/api/convagents/sessions", {"templateId": template["id"], "metadata": {"crm": "7"}}, status=201
    )
    session_id = started["session"]["id"]
    assert (started["session"]["status"], started["expiresIn"]) == ("pending", 900)
    assert f"agent_id={template['agentId']}" in started["signedUrl"]

    # The call: the client has passed the dynamic variables on, and ElevenLabs adds its own.
    variables = started["dynamicVariables"] | {
        "system__conversation_id": "conv_of_the_loop",
        "system__agent_id": template["agentId"],
    }
    receiver.next_replies(b'{"caller":"Ada"}')
    asked = use_tool(tool_of(workspace, agent, "context"), variables, {"query": "Who is calling?"})
    assert (asked.status_code, asked.json()) == (200, {"caller": "Ada"})
    told = use_tool(tool_of(workspace, agent, "event"), variables, {"name": "response", "answer": "Very well."})
    assert told.json()["data"]["received"] is True
    assert await_session(client, session_id, "active")["metadata"] == {"crm": "7"}

    # Its end: by the webhook that the agent names, signed with the secret that ElevenLabs gave us and nobody else.
    hook = workspace.webhooks[agent["platform_settings"]["workspace_overrides"]["webhooks"]["post_call_webhook_id"]]
    assert hook["retry_enabled"] is True
    ended = elevenlabs_transcription(
        "conv_of_the_loop", seconds=91, agent_id=template["agentId"], session_id=session_id,
        timestamp_seconds=int(time.time()),
    )  # fmt: skip
    proof = elevenlabs_headers(ended, hook["secret"])
    official = ElevenLabs(api_key="unused").webhooks
    assert official.construct_event(ended.decode(), proof["ElevenLabs-Signature"], hook["secret"])
    answers = [stack.post(hook["webhook_url"], ended, proof).json() for _ in range(2)]
    assert [answer["repeat"] for answer in answers] == [False, True]

    session = await_session(client, session_id, "completed")
    assert (session["duration"], session["billedSeconds"], session["cost"]) == (91, 91, 0.151667)
    customer = stack.customers.known(client.account_id)
    stack.await_settled(customer)
    context, event, complete = (json.loads(post.body) for post in receiver.posts)
    assert [one["event"] for one in (context, event, complete)] == ["context", "event", "complete"]
    assert {(one["sessionId"], one["templateId"]) for one in (context, event, complete)} == {
        (session_id, template["id"])
    }
    assert [verified(post, template["signingSecret"])["event"] for post in receiver.posts] == [
        "context", "event", "complete",
    ]  # fmt: skip
    assert {post.headers["x-webhook-secret"] for post in receiver.posts} == {template["webhookSecret"]}
    assert receiver.posts[2].body.endswith(b'"data":' + ended + b"}")
    assert [(one.conversation_id, one.session_id, one.amount) for one in stack.charges(customer)] == [
        ("conv_of_the_loop", session_id, Decimal("0.151667"))
    ]


def test_retell_from_web_call_to_charge(stack: Stack, retell: FakeRetell, receiver: Receiver) -> None:
    """A web call that we begin at Retell, its signed webhooks, each delivered once, one charge."""
    client = new_customer(stack)
    agent_id = f"agent_of_{client.account_id}"
    operator = Client(stack.url, OPERATOR_KEY)
    operator.call("PUT", f"/api/v1/accounts/{client.account_id}/grants/retell/{agent_id}")
    template = client.data(
        "POST",
        "/api/convagents/templates",
        {
            "name": "Reception",
            "type": "conversation",
            "systemPrompt": "It stands at Retell.",
            "provider": "retell",
            "agentId": agent_id,
            "clientWebhookUrl": receiver.url,
        },
        status=201,
    )
    source = client.call("POST", "/api/v1/sources", {"provider": "retell", "secrets": [retell.key]}, status=201)
    started = client.data("POST", "/api/convagents/sessions", {"templateId": template["id"]}, status=201)
    session_id, call = started["session"]["id"], retell.calls[started["callId"]]
    assert call["agent_id"] == template["agentId"]
    assert started["accessToken"]

    def report(event: str) -> None:
        body = retell_event(event, call["call_id"], seconds=91, agent_id=call["agent_id"], metadata=call["metadata"])
        for _ in range(2):
            assert stack.post(source["url"], body, retell_headers(body, retell.key)).status_code == 200

    report("call_started")
    assert await_session(client, session_id, "active")["id"] == session_id
    report("call_ended")
    report("call_analyzed")
    session = await_session(client, session_id, "completed")
    assert (session["duration"], session["cost"]) == (91, 0.151667)
    customer = stack.customers.known(client.account_id)
    stack.await_settled(customer)
    posts = sorted(receiver.posts, key=lambda post: post.headers["switchhook-event"])
    assert [post.headers["switchhook-event"] for post in posts] == [
        "retell.call_analyzed", "retell.call_ended", "retell.call_started",
    ]  # fmt: skip
    assert {verified(post, template["signingSecret"])["sessionId"] for post in posts} == {session_id}
    assert [(one.conversation_id, one.session_id, one.amount) for one in stack.charges(customer)] == [
        (call["call_id"], session_id, Decimal("0.151667"))
    ]


def test_conversation_from_creation_to_its_turns(stack: Stack, elevenlabs: FakeElevenLabs, receiver: Receiver) -> None:
    """A client that knows nothing of sessions: what its agent reports is the conversation's all the same."""
    client, workspace = new_customer(stack), elevenlabs.workspace
    client.call("POST", "/api/v1/endpoints", {"url": receiver.url}, status=201)
    wanted = {"voice_id": "JBFqnCBsd6RMkjVDRZzb", "system_prompt": "You are a friendly receptionist."}
    made = client.call("POST", "/v1/conversations/create", wanted, status=201)
    path = f"/v1/conversations/{made['session_id']}"
    bearer = {"Authorization": f"Bearer {client.key}"}
    upgrade = bearer | {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert stack.get(f"{path}/stream?encoding=opus", upgrade).status_code == 501

    agent = workspace.agents[made["agent_id"]]
    hook = workspace.webhooks[agent["platform_settings"]["workspace_overrides"]["webhooks"]["post_call_webhook_id"]]
    # Deleted while the call is under way: it ends by itself, and still counts.
    assert requests.delete(stack.url + path, headers=bearer, timeout=_SECONDS).status_code == 204
    assert made["agent_id"] not in workspace.agents
    ended = elevenlabs_transcription(f"conv_of_{client.account_id}", seconds=91, agent_id=made["agent_id"])
    ended = ended.replace(b'"status":', b'"user_message_count": 3, "agent_message_count": 4, "status":')
    assert stack.post(hook["webhook_url"], ended, elevenlabs_headers(ended, hook["secret"])).status_code == 200

    def has_ended() -> bool:
        return bool(client.call("GET", path)["status"] == "completed")

    eventually(has_ended, within_seconds=_SECONDS, what="a completed conversation")
    shown = client.call("GET", path)
    assert (shown["turn_count"], shown["turns"]) == (7, [])
    customer = stack.customers.known(client.account_id)
    stack.await_settled(customer)
    [post] = receiver.posts
    assert post.body == ended
    assert f"conv_{post.headers['switchhook-session']}" == made["session_id"]
    assert [one.amount for one in stack.charges(customer)] == [Decimal("0.151667")]
