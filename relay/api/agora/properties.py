"""What an agent of Agora's is to be, as its document of `join` and its Python package 2.12.0 describe it.

What the document names is checked. What Agora has added since (other vendors, `mllm`, `turn_detection` and more) is
passed on as it came, because Agora checks it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from relay.api.core.models import Input

_NUMBERED_UID: Final = re.compile(r"[0-9]{1,10}")
_MAX_UID: Final = 2**32 - 1

Text = Annotated[str, Field(max_length=2048)]
Uid = Annotated[str, Field(min_length=1, max_length=255)]


class Open(Input):
    """An object that may have members which are not told here."""

    model_config = ConfigDict(alias_generator=None, extra="allow")


class Closed(Input):
    """An object that has no others."""

    model_config = ConfigDict(alias_generator=None)


class AdvancedFeatures(Open):
    """Features that are off unless asked for."""

    enable_aivad: bool = False


class Asr(Open):
    """How speech is recognized."""

    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}-[A-Z]{2}$")] = "en-US"


class MicrosoftParams(Open):
    """Microsoft Azure's voices."""

    key: Text | None = None
    region: Text | None = None
    voice_name: Text | None = None
    rate: Annotated[float, Field(ge=0.5, le=2.0)] = 1.0
    volume: Annotated[float, Field(ge=0.0, le=100.0)] = 100.0
    sample_rate: Annotated[int, Field(ge=8_000, le=48_000)] = 24_000


class ElevenLabsParams(Open):
    """ElevenLabs' voices."""

    key: Text | None = None
    model_id: Text | None = None
    voice_id: Text | None = None
    sample_rate: Annotated[int, Field(ge=8_000, le=48_000)] = 24_000
    stability: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    similarity_boost: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    style: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    user_speaker_boost: bool | None = None


class MicrosoftTts(Open):
    """Speech by Microsoft Azure."""

    vendor: Literal["microsoft"]
    params: MicrosoftParams


class ElevenLabsTts(Open):
    """Speech by ElevenLabs."""

    vendor: Literal["elevenlabs"]
    params: ElevenLabsParams


class OtherTts(Open):
    """Speech by a vendor that Agora has added since: its parameters are Agora's to check."""

    vendor: Annotated[
        str, Field(min_length=1, max_length=64, json_schema_extra={"not": {"enum": ["microsoft", "elevenlabs"]}})
    ]
    params: dict[str, Any]


def _vendor(tts: Any) -> str:
    vendor = tts.get("vendor") if isinstance(tts, dict) else getattr(tts, "vendor", None)
    return vendor if vendor in ("microsoft", "elevenlabs") else "other"


Tts = Annotated[
    Annotated[MicrosoftTts, Tag("microsoft")]
    | Annotated[ElevenLabsTts, Tag("elevenlabs")]
    | Annotated[OtherTts, Tag("other")],
    Discriminator(_vendor),
]


class Llm(Open):
    """The language model, which Agora calls."""

    url: Annotated[str, Field(max_length=2048, pattern="^(https?|wss?)://")] | None = None
    api_key: Text = ""
    system_messages: list[dict[str, Any]] | None = None
    params: dict[str, Any] | None = None
    max_history: Annotated[int, Field(ge=0, le=1024)] = 10
    input_modalities: Annotated[list[Literal["text", "image"]], Field(min_length=1, max_length=2)] | None = None
    output_modalities: Annotated[list[Literal["text", "audio"]], Field(min_length=1, max_length=2)] | None = None
    greeting_message: str | None = None
    failure_message: str | None = None
    style: Literal["openai", "gemini", "anthropic", "dify", "bedrock"] = "openai"


class Vad(Open):
    """When somebody is taken to speak."""

    interrupt_duration_ms: Annotated[float, Field(ge=0)] = 160
    prefix_padding_ms: Annotated[int, Field(ge=0)] = 300
    silence_duration_ms: Annotated[int, Field(ge=0)] = 640
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5


class JoinProperties(Open):
    """What an agent is to be."""

    channel: Annotated[str, Field(min_length=1, max_length=64)]
    token: Text
    agent_rtc_uid: Uid
    remote_rtc_uids: Annotated[list[Uid], Field(min_length=1)]
    enable_string_uid: bool = False
    idle_timeout: Annotated[int, Field(ge=0, le=259_200)] = 30
    advanced_features: AdvancedFeatures | None = None
    asr: Asr | None = None
    tts: Tts | None = None
    llm: Llm | None = None
    vad: Vad | None = None
    mllm: dict[str, Any] | None = None
    labels: Annotated[dict[str, str], Field(max_length=50)] | None = None

    @model_validator(mode="after")
    def _has_the_uids_it_says(self) -> Self:
        if not self.enable_string_uid:
            for name, uids in (("agent_rtc_uid", [self.agent_rtc_uid]), ("remote_rtc_uids", self.remote_rtc_uids)):
                if not all(_is_number(uid) or (uid == "*" and name == "remote_rtc_uids") for uid in uids):
                    raise ValueError(f"{name} must be numbers, unless enable_string_uid is true")
        return self


def _is_number(uid: str) -> bool:
    return _NUMBERED_UID.fullmatch(uid) is not None and int(uid) <= _MAX_UID


def checked_complete(properties: JoinProperties, *, is_prepared: bool) -> None:
    """Raises ValueError naming what is missing.

    A prepared agent, by a preset or a pipeline, and one with an `mllm` bring along what the others need.
    """
    if is_prepared or properties.mllm is not None:
        return
    absent = _missing(properties)
    if absent:
        raise ValueError(f"{', '.join(absent)}: required")


def _missing(properties: JoinProperties) -> list[str]:
    """What the document requires and its own pipeline cannot do without."""
    absent = []
    if properties.llm is None or (properties.llm.url is None and "vendor" not in (properties.llm.model_extra or {})):
        absent.append("properties.llm.url")
    match properties.tts:
        case None:
            absent.append("properties.tts")
        case MicrosoftTts(params=params):
            absent += [
                f"properties.tts.params.{name}" for name in ("key", "region", "voice_name") if not getattr(params, name)
            ]
        case ElevenLabsTts(params=params):
            absent += [
                f"properties.tts.params.{name}" for name in ("key", "model_id", "voice_id") if not getattr(params, name)
            ]
    return absent
