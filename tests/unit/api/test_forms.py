"""Answers that may be had as JSON or as something else."""

from __future__ import annotations

from relay.api import page
from relay.api.description import document

DOCUMENT = document("https://hooks.example.com")


def test_both_forms_are_described() -> None:
    """JSON first, by its model; the other as text."""
    content = DOCUMENT["paths"]["/api/v1/usage"]["get"]["responses"]["200"]["content"]
    assert list(content) == ["application/json", "text/csv; charset=utf-8"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/UsageReport"}
    assert content["text/csv; charset=utf-8"]["schema"] == {"type": "string"}


def test_the_page_names_both_and_shows_json() -> None:
    """With its fields."""
    entries = [entry for section in page.sections(DOCUMENT) for entry in section.entries]
    (usage,) = [entry for entry in entries if entry.path == "/api/v1/usage"]
    (success,) = usage.successes
    assert success.kind == "application/json or text/csv; charset=utf-8"
    assert "totals.unrated" in {field.path for field in success.fields}
    assert '"as_of"' in success.example
