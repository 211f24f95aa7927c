"""What Agora is told of a template: its prompt and its greeting, unless the request has its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import pytest

from relay.agents.prompting import prompted
from relay.store.templates import Template

NOW: Final = datetime(2026, 11, 20, tzinfo=UTC)
SYSTEM: Final = {"role": "system", "content": "Be kind."}
OWN: Final = {"role": "system", "content": "Be brief."}


def _template(config: dict[str, Any], **fields: Any) -> Template:
    values: dict[str, Any] = dict.fromkeys(Template.__dataclass_fields__)
    values |= {"id": 7, "account_id": "acc_1", "name": "Intake", "type": "conversation", "provider": "agora"}
    return Template(**values | {"created_at": NOW, "updated_at": NOW, "hidden": False, "config": config} | fields)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, {"system_messages": [SYSTEM], "greeting_message": "Hello."}),
        ({"url": "u"}, {"url": "u", "system_messages": [SYSTEM], "greeting_message": "Hello."}),
        ({"system_messages": []}, {"system_messages": [SYSTEM], "greeting_message": "Hello."}),
        ({"system_messages": [OWN]}, {"system_messages": [OWN], "greeting_message": "Hello."}),
        ({"greeting_message": ""}, {"system_messages": [SYSTEM], "greeting_message": ""}),
        (
            {"style": "gemini"},
            {
                "style": "gemini",
                "system_messages": [{"role": "user", "parts": [{"text": "Be kind."}]}],
                "greeting_message": "Hello.",
            },
        ),
    ],
)
def test_fills_what_the_request_leaves_out(given: dict[str, Any], sent: dict[str, Any]) -> None:
    """In the words of the model's style; what is there stays, an empty greeting too."""
    template = _template({"systemPrompt": "Be kind.", "firstMessage": "Hello."})
    properties = {"channel": "c", "llm": given}
    assert prompted(template, properties) == {"channel": "c", "llm": sent}
    assert properties == {"channel": "c", "llm": given}


def test_an_interviews_questions_are_in_its_prompt() -> None:
    """As they are at ElevenLabs."""
    template = _template({"systemPrompt": "Be kind.", "questions": [{"question": "Why?"}]}, type="interview")
    (message,) = prompted(template, {"channel": "c"})["llm"]["system_messages"]
    assert message["content"].startswith("Be kind.")
    assert "1. Why?" in message["content"]


@pytest.mark.parametrize("properties", [{"channel": "c"}, {"channel": "c", "llm": None}])
def test_a_template_that_says_nothing_adds_nothing(properties: dict[str, Any]) -> None:
    """No empty `llm` is made up."""
    assert prompted(_template({}), properties) == properties


def test_a_multimodal_model_is_left_as_it_is() -> None:
    """`mllm` takes the place of `llm`."""
    properties = {"channel": "c", "mllm": {"vendor": "openai"}}
    assert prompted(_template({"systemPrompt": "Be kind."}), properties) == properties
