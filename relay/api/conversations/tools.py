"""Tools that a conversation's own client runs: described by JSON Schema, of which ElevenLabs knows a part.

ElevenLabs' part: `type`, `description`, `enum` of strings, `items`, `properties`, `required` (official Python package
2.78, `ClientToolConfigInput` and `ObjectJsonSchemaPropertyInput`). What it would not enforce is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from relay.api.core.models import Input

# ElevenLabs takes 64 characters, of which 28 say whose tool it is (`relay.agents.tools.tool_prefix`).
TOOL_NAME = r"^[A-Za-z0-9_-]{1,36}$"
PROPERTY_NAME = r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$"

Name = Annotated[str, Field(pattern=PROPERTY_NAME)]


class _Schema(Input):
    """JSON Schema spells its keywords as it does, in every dialect."""

    model_config = ConfigDict(alias_generator=None)

    description: Annotated[str | None, Field(min_length=1, max_length=2000)] = None


class Text(_Schema):
    """A string, perhaps one of a few."""

    type: Literal["string"]
    enum: Annotated[list[Annotated[str, Field(min_length=1, max_length=255)]] | None, Field(min_length=1)] = None


class Scalar(_Schema):
    """A number or a truth value."""

    type: Literal["number", "integer", "boolean"]


class Array(_Schema):
    """A list of one kind of thing."""

    type: Literal["array"]
    items: Parameter


class Object(_Schema):
    """An object with these properties and no other."""

    type: Literal["object"]
    properties: Annotated[dict[Name, Parameter], Field(max_length=64)] = Field(default_factory=dict)
    required: Annotated[list[Name], Field(max_length=64)] = Field(default_factory=list)
    additional_properties: Annotated[Literal[False] | None, Field(alias="additionalProperties")] = None

    @model_validator(mode="after")
    def _required_are_there(self) -> Object:
        if not set(self.required) <= set(self.properties):
            raise ValueError("required must name properties")
        return self


Parameter = Annotated[Text | Scalar | Array | Object, Field(discriminator="type")]
Array.model_rebuild()
Object.model_rebuild()


class Tool(Input):
    """A function that the agent may call; the client answers it."""

    model_config = ConfigDict(alias_generator=None)

    name: Annotated[str, Field(pattern=TOOL_NAME, examples=["book_table"])]
    description: Annotated[
        str, Field(min_length=1, max_length=2000, examples=["Books a table for a number of people."])
    ]
    parameters: Object | None = None


def client_tool(tool: Tool) -> dict[str, Any]:
    """A tool as ElevenLabs has it, but for what its agent puts before its name. Pure."""
    config = {"type": "client", "name": tool.name, "description": tool.description, "expects_response": True}
    if tool.parameters is not None and tool.parameters.properties:
        config["parameters"] = _converted(tool.parameters, "parameters")
    return config


def _converted(schema: Text | Scalar | Array | Object, name: str) -> dict[str, Any]:
    # A value without a description would be nobody's to fill in.
    said: dict[str, Any] = {"type": schema.type, "description": schema.description or name.replace("_", " ")}
    match schema:
        case Text(enum=[*allowed]):
            said["enum"] = allowed
        case Array(items=items):
            said["items"] = _converted(items, name)
        case Object(properties=properties, required=required):
            said["properties"] = {inner: _converted(one, inner) for inner, one in properties.items()}
            said["required"] = list(required)
    return said
