"""The description as a page: written on the server, without scripts and without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from relay.api import curl
from relay.api.core.models import MAX_CHARS
from relay.api.core.samples import sample
from relay.api.core.schemas import Schemas
from relay.api.phrases import Field, fields, kind_of

_MAY_CALL: Final = {
    "read": "any key of the account",
    "write": "a key of the account that may write",
    "operate": "the operator's key",
}
_PROVED: Final = "whoever has the proof"
_ANYBODY: Final = "anybody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """One way in which it goes well: its fields, and what it may look like."""

    status: str
    meaning: str
    kind: str
    fields: list[Field]
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One operation as the page shows it."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    caller: str
    keys: list[str]
    parameters: list[Field]
    body: list[Field]
    successes: list[Success]
    errors: list[tuple[str, str]]
    curl: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The operations of one tag."""

    anchor: str
    title: str
    entries: list[Entry]


def written(document: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """The page of an OpenAPI description, and its headers: nothing but its own style sheet may apply."""
    style = files("relay.api").joinpath("templates/docs.css").read_text("utf-8")
    environment = Environment(
        loader=PackageLoader("relay.api"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["marked"] = marked
    html = environment.get_template("docs.html").render(
        title=document["info"]["title"],
        version=document["info"]["version"],
        summary=document["info"]["summary"],
        style=Markup(style),  # noqa: S704  the file beside the template
        sections=list(sections(document)),
        schemes=document["components"]["securitySchemes"],
        most_chars=MAX_CHARS,
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return html.encode(), {
        "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def sections(document: dict[str, Any]) -> Iterator[Section]:
    """The operations by their tags, in the order of the description."""
    listed = [
        (one["tags"][0], _entry(method.upper(), path, one, document))
        for path, item in document["paths"].items()
        for method, one in item.items()
    ]
    for tag in document["tags"]:
        title = tag["name"]
        entries = [entry for name, entry in listed if name == title]
        yield Section(anchor=re.sub(r"[^a-z0-9]+", "-", title.lower()), title=title, entries=entries)


def marked(text: str) -> Markup:
    """Plain text with its `code` marked up as such."""
    parts = (
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part)
        for index, part in enumerate(text.split("`"))
    )
    return Markup("").join(parts)


def _entry(method: str, path: str, operation: dict[str, Any], document: dict[str, Any]) -> Entry:
    components = document["components"]
    schemas, security = components["schemas"], operation["security"]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    roles = [role for requirement in security for roles in requirement.values() for role in roles]
    schemes = components["securitySchemes"]
    url = document["servers"][0]["url"]
    return Entry(
        anchor=operation["operationId"],
        method=method,
        path=path,
        summary=operation["summary"],
        description=operation.get("description", ""),
        caller=_MAY_CALL[roles[0]] if roles else _PROVED if security else _ANYBODY,
        keys=[name for requirement in security for name in requirement],
        parameters=[_parameter(one, schemas) for one in operation.get("parameters", ())],
        body=list(fields(body, schemas)),
        successes=[
            _success(status, answer, schemas) for status, answer in operation["responses"].items() if status < "300"
        ],
        errors=[(status, one["description"]) for status, one in operation["responses"].items() if status >= "300"],
        curl=curl.command(method, path, operation, url=url, schemes=schemes),
    )


def _parameter(parameter: dict[str, Any], schemas: Schemas) -> Field:
    place = "" if parameter["in"] == "path" else f" ({parameter['in']})"
    return Field(
        path=parameter["name"] + place,
        kind=kind_of(parameter["schema"], schemas),
        is_required=parameter["required"],
        description=parameter.get("description", ""),
    )


def _success(status: str, answer: dict[str, Any], schemas: Schemas) -> Success:
    forms = answer.get("content", {"": {}})
    # What can be told of is JSON; where there is another form beside it, it comes first.
    first, content = next(iter(forms.items()))
    schema = content.get("schema", {})
    described = first.endswith("json") and schema
    return Success(
        status=status,
        meaning=answer["description"],
        kind=" or ".join(forms),
        fields=list(fields(schema, schemas)) if described else [],
        example=json.dumps(sample(schema, schemas, is_whole=True), indent=2, ensure_ascii=False) if described else "",
    )
