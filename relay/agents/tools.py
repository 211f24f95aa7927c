"""The tools of an agent at ElevenLabs, and the names that say whose they are. Pure.

Two reach us in mid-call. Those of a template's `clientTools` are answered by the client that holds the conversation.

Shapes: official Python package 2.78, `conversational_ai.tools.create`. They are records of the workspace, which agents
have by id: agents with `prompt.tools` are refused since July 2025 (ElevenLabs docs, "Agent tools deprecation").
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any, Final

from relay.sealing import KeyRing
from relay.store.templates import Template

SESSION_VARIABLE: Final = "canary_session_id"
# A client that does not pass the variable could not begin a conversation; the ingress takes 0 for no session.
_NO_SESSION: Final = "0"
# How tags of ours begin, and no others.
OUR_TAGS: Final = "switchhook"
# A little more than a customer's server may take, so that our own answer comes first.
_TOOL_SECONDS: Final = 25

Json = dict[str, Any]


def markers(ring: KeyRing, account_id: str, template_id: int) -> tuple[str, ...]:
    """The tags by which an agent is known to be this template's: one for each key of the ring, the newest key's first.

    Customers write tags as well, so that these must not be guessed.
    """
    digests = ring.lookup_hashes(f"voice agent {_whose(account_id, template_id)}")
    return tuple(f"{OUR_TAGS}:{digest[:40]}" for digest in digests)


def tool_prefix(account_id: str, template_id: int) -> str:
    """How the names of this template's tools begin: names are all that tools can be searched by.

    It stays when the ring is rotated, because clients answer tools by their names; and it can be no secret, because
    nobody names a tool without it.
    """
    digest = hashlib.blake2b(_whose(account_id, template_id).encode(), digest_size=10).digest()
    return f"switchhook_{base64.b32encode(digest).decode('ascii').lower()}_"


def _whose(account_id: str, template_id: int) -> str:
    return f"switchhook:{account_id}:{template_id}"


def tools(template: Template, *, public_url: str) -> list[Json]:
    """All that the template's agent has."""
    return [*_relayed(template, public_url), *_of_client(template)]


def session_placeholder(template: Template) -> str:
    """The session of a client that names none: the template's only one, if it has a single one."""
    return _NO_SESSION if template.session_id is None else str(template.session_id)


def client_tool_names(template: Template) -> dict[str, str]:
    """What the client's own tools are called at ElevenLabs, by the names that the customer gave them."""
    prefix = tool_prefix(template.account_id, template.id)
    return {tool["name"]: prefix + tool["name"] for tool in template.config.get("clientTools") or []}


def _of_client(template: Template) -> list[Json]:
    names = client_tool_names(template)
    return [{**tool, "name": names[tool["name"]]} for tool in template.config.get("clientTools") or []]


def _relayed(template: Template, public_url: str) -> list[Json]:
    """The tools `..._context` and `..._event`; none where there is no URL to relay them to."""
    if template.client_webhook_url is None:
        return []
    ask = _text("What you need to know, as a question or a few words.")
    context = _tool(template, "context", f"{public_url}/api/convagents/webhook/context", {"query": ask}, ["query"])
    context["description"] = (
        "Asks the system behind this conversation for information that you were not given. Use it when your "
        "instructions tell you to look something up, or when you need facts about the person or the matter."
    )
    reported = {
        "name": _text("What happened, in one or two words: response, section_completed, escalation."),
        "question": _text("The question that was answered, if it was one."),
        "answer": _text("The answer, in the person's own words."),
        "details": _text("Anything else that matters."),
    }
    event = _tool(template, "event", f"{public_url}/api/convagents/webhook/event", reported, ["name"])
    event["description"] = (
        "Reports what has just happened to the system behind this conversation, without waiting for the end: an "
        "answer to one of your questions, a section that is done, or what your instructions tell you to report."
    )
    event["execution_mode"] = "async"  # the person should not wait for it
    return [context, event]


def _tool(template: Template, name: str, url: str, properties: Json, required: Sequence[str]) -> Json:
    bound: Json = {
        "sessionId": {"type": "string", "dynamic_variable": SESSION_VARIABLE},
        "conversationId": {"type": "string", "dynamic_variable": "system__conversation_id"},
        "agentId": {"type": "string", "dynamic_variable": "system__agent_id"},
        "templateId": {"type": "integer", "constant_value": template.id},
    }
    schema = {"type": "object", "required": [*bound, *required], "properties": bound | properties}
    return {
        "type": "webhook",
        "name": tool_prefix(template.account_id, template.id) + name,
        "response_timeout_secs": _TOOL_SECONDS,
        "api_schema": {
            "url": url,
            "method": "POST",
            "request_headers": {"X-Webhook-Secret": template.webhook_secret},
            "request_body_schema": schema,
        },
    }


def _text(description: str) -> Json:
    return {"type": "string", "description": description}
