"""The page for readers, and what it says of schemas."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from relay.api import curl, page
from relay.api.description import document
from relay.api.phrases import Field, fields, kind_of

DOCUMENT = document("https://hooks.example.com")
HTML, HEADERS = page.written(DOCUMENT)


class Elements(HTMLParser):
    """The elements of a page: names, attributes, ids, and what is open at the end."""

    VOID = frozenset({"meta"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, name: str) -> list[str]:
        """The values of an attribute."""
        return [value for attribute, value in self.attributes if attribute == name]


ELEMENTS = Elements(HTML.decode())


def test_every_operation_has_its_place() -> None:
    """With a title that can be linked to, and each link of the page leads to one."""
    described = [one["operationId"] for item in DOCUMENT["paths"].values() for one in item.values()]
    ids = ELEMENTS.values("id")
    assert len(ids) == len(set(ids))
    assert set(described) <= set(ids)
    assert {link for link in ELEMENTS.values("href") if not link.startswith("#")} == {"openapi.json"}
    assert {link[1:] for link in ELEMENTS.values("href") if link.startswith("#")} <= set(ids)


def test_is_whole_html_without_scripts_or_anything_from_elsewhere() -> None:
    """What is opened is closed; nothing is loaded, and nothing is done."""
    assert ELEMENTS.open == []
    assert ELEMENTS.names & {"script", "img", "link", "iframe", "form", "object"} == set()
    assert not [name for name, _ in ELEMENTS.attributes if name.startswith("on") or name in {"style", "src"}]


def test_its_policy_allows_its_own_style_and_nothing_else() -> None:
    """By the hash of exactly the bytes between the tags."""
    (style,) = re.findall(rb"<style>(.*?)</style>", HTML, re.DOTALL)
    policy = dict(rule.split(" ", 1) for rule in HEADERS["Content-Security-Policy"].split("; "))
    digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_what_is_described_cannot_become_markup() -> None:
    """Neither as text nor as code."""
    assert page.marked("a `<b>` & <i>") == "a <code>&lt;b&gt;</code> &amp; &lt;i&gt;"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "string"),
        ({"type": "string", "minLength": 1, "maxLength": 255}, "string, 1 to 255 characters"),
        ({"type": "string", "minLength": 1}, "string, not empty"),
        ({"type": "string", "minLength": 9}, "string, at least 9 characters"),
        ({"type": "string", "format": "date-time"}, "date-time"),
        ({"type": "integer", "minimum": 30, "maximum": 3600, "default": 600}, "integer, 30 to 3600, default 600"),
        ({"type": "integer", "minimum": 0}, "integer, at least 0"),
        ({"type": "integer", "minimum": 1}, "integer, at least 1"),
        ({"type": "number", "exclusiveMinimum": 0}, "number, more than 0"),
        ({"type": "string", "pattern": "^[A-Z]{3}$"}, "string, matching ^[A-Z]{3}$"),
        ({"type": "boolean", "default": False}, "boolean, default false"),
        ({"enum": ["a", "b"], "type": "string"}, '"a" | "b"'),
        ({"const": True}, "true"),
        ({"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]}, "string, at most 9 characters, or null"),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 7}, "list of string, at most 7 of them"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "object of string"),
        ({"type": ["string", "null"]}, "string, or null"),
        ({"anyOf": [{"type": "null"}]}, "null"),
        ({"type": "string", "maxLength": 100_000}, "string"),
        ({"type": "array", "items": {"type": ["integer", "null"]}}, "list of (integer, or null)"),
        ({"enum": list(range(14))}, "0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 2 more"),
        ({}, "anything"),
    ],
)
def test_says_types_and_limits_in_words(schema: dict[str, Any], words: str) -> None:
    """As somebody reads them who has never seen a JSON Schema."""
    assert kind_of(schema, {}) == words


def test_lists_the_fields_of_fields() -> None:
    """Objects, lists of objects, objects by name, and what may be null."""
    inner = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "description": "What."}}}
    schema = {
        "type": "object",
        "properties": {
            "one": {"$ref": "#/components/schemas/Inner"},
            "many": {"type": "array", "items": {"$ref": "#/components/schemas/Inner"}},
            "byName": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Inner"}},
            "maybe": {"anyOf": [{"$ref": "#/components/schemas/Inner"}, {"type": "null"}]},
        },
    }
    listed = list(fields(schema, {"Inner": inner}))
    assert [field.path for field in listed] == [
        "one", "one.text", "many", "many[].text", "byName", "byName.*.text", "maybe", "maybe.text",
    ]  # fmt: skip
    assert listed[1] == Field(path="one.text", kind="string", is_required=True, description="What.")


def test_a_schema_that_holds_itself_ends() -> None:
    """In words, and as a list of fields."""
    tree = {"type": "object", "properties": {"of": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}}}
    nested = {"type": "array", "items": {"$ref": "#/components/schemas/Nested"}}
    schemas = {"Tree": tree, "Nested": nested}
    assert kind_of(nested, schemas) == "list of (list of (list of array))"
    assert [field.path for field in fields(tree, schemas)][-1] == "of[].of[].of[].of[].of[].of[].of"


SCHEMES = {
    "bearerKey": {"type": "http", "scheme": "bearer"},
    "operatorKey": {"type": "http", "scheme": "bearer"},
    "agoraBasic": {"type": "http", "scheme": "basic"},
    "xiApiKey": {"type": "apiKey", "in": "header", "name": "xi-api-key"},
    "templateSecret": {"type": "apiKey", "in": "header", "name": "X-Webhook-Secret"},
}


@pytest.mark.parametrize(
    ("security", "line"),
    [
        ([], None),
        ([{"bearerKey": ["read"]}, {"xiApiKey": ["read"]}], '-H "Authorization: Bearer $API_KEY"'),
        ([{"operatorKey": ["operate"]}], '-H "Authorization: Bearer $OPERATOR_KEY"'),
        ([{"agoraBasic": ["write"]}], '-u "$KEY_ID:$API_KEY"'),
        ([{"xiApiKey": ["read"]}], '-H "xi-api-key: $API_KEY"'),
        ([{"templateSecret": []}], '-H "X-Webhook-Secret: $TEMPLATE_SECRET"'),
    ],
)
def test_shows_where_the_key_goes(security: list[dict[str, list[str]]], line: str | None) -> None:
    """In the first of the places that the operation takes."""
    shown = curl.command("GET", "/x/{row_id}", {"security": security}, url="https://h.example/", schemes=SCHEMES)
    assert shown.split(" \\\n  ") == ['curl "https://h.example/x/$ROW_ID"', *([line] if line else [])]


def test_shows_a_body_that_a_shell_reads_as_it_is() -> None:
    """Apostrophes too."""
    operation = {
        "security": [],
        "parameters": [{"name": "since", "in": "query", "required": True}],
        "requestBody": {"content": {"application/json": {"example": {"name": "Ada's"}}}},
    }
    shown = curl.command("POST", "/x", operation, url="https://h.example", schemes={})
    assert shown == (
        'curl -X POST "https://h.example/x?since=$SINCE" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        "  -d '{\"name\": \"Ada'\\''s\"}'"
    )
