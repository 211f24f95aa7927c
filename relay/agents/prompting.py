"""What an agent of Agora's is told when it joins: a template's prompt and greeting, where the request has none. Pure.

Agora has no agents that wait: what one is to be goes with each `join` (Agora docs, "Start a conversational AI agent").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relay.agents.spec import script
from relay.store.templates import Template

_GEMINI: Final = "gemini"


def prompted(template: Template, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties of a `join` with the template's `systemPrompt` and `firstMessage` in `llm`.

    What the request says itself stays. A join with `mllm`, which takes the place of `llm`, is left as it is.
    """
    if properties.get("mllm") is not None:
        return dict(properties)
    llm = dict(properties.get("llm") or {})
    written, greeting = script(template), template.config.get("firstMessage")
    if written and not llm.get("system_messages"):
        llm["system_messages"] = [_system_message(written, style=llm.get("style"))]
    if greeting and llm.get("greeting_message") is None:
        llm["greeting_message"] = greeting
    return {**properties, "llm": llm} if llm else dict(properties)


def _system_message(text: str, *, style: str | None) -> dict[str, Any]:
    """In the words of the model that `style` names: Gemini's differ (Agora docs, "Google Gemini")."""
    if style == _GEMINI:
        return {"role": "user", "parts": [{"text": text}]}
    return {"role": "system", "content": text}
