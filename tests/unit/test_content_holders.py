"""Who may have content in hand, and who may look inside: each module by name, with its reason.

Content that goes its way unlooked at needs no more than the type. Whoever calls `reveal()` has bytes that nothing
protects any more, so each such place is a decision, made here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("relay", "billing", "workers", "bench")

REVEALING = {
    "relay.ingress.intake": "proves the sender over the bytes, reads the facts, seals",
    "relay.ingress.matching": "finds the template that a body belongs to, by the ids in it",
    "relay.ingress.context": "signs the question to the customer's server",
    "relay.ingress.webhooks": "answers an agent with what the customer's server said",
    "relay.delivery.dispatch": "signs a delivery",
    "relay.delivery.envelope": "splices the payload into the envelope",
    "relay.delivery.transfer": "hands the body to libcurl",
    "relay.delivery.failurewhen": "reads one field of a customer's answer, and says yes or no",
    "relay.api.core.serving": "reads the fields of a request of the API",
    "relay.delivery.admitting": "seals",
    "relay.recordings.request": "seals and reads the address of a recording",
    "relay.recordings.ranges": "cuts what a parser asks for out of what was fetched",
    "relay.recordings.apart": "hands that to the parser",
    "relay.refetch": "reads whose a call is that was fetched again, and seals it",
    "relay.refetch.forms": "puts what a provider's API tells into its webhook's form",
    "relay.demo.provider": "sends the sample webhooks, as a provider",
}
HOLDING = REVEALING | {
    "relay.recordings.fetch": "what came of a recording",
    "relay.recordings.event": "the metadata that endpoints receive",
    "relay.ingress.canonical": "passes a body on to the intake",
    "relay.delivery.exchange": "a request's body, an answer's body",
    "relay.reconciliation.fetching": "passes on a conversation that was fetched",
    "relay.reconciliation.relaying": "has it sealed for its endpoints",
    "relay.notices": "what an account is told of its budgets and statements, on its way to be sealed",
}
# What makes plain bytes of something: they become Content in the same expression, and never have a name.
MAKERS = {"open_event", "read_body"}


def test_only_these_modules_import_content() -> None:
    """Everything else cannot even hold it; a console that came to need it would have to be written in here."""
    assert {name for name, tree in modules() if imports_content(tree)} == set(HOLDING)


def test_only_these_modules_look_inside() -> None:
    """By `reveal` however it is spelt, or past it."""
    assert {name for name, tree in modules() if reveals(tree)} == set(REVEALING)


def test_plain_bytes_become_content_at_once() -> None:
    """What was unsealed or read has no name as bytes: error reporters keep local variables."""
    bare = {name for name, tree in modules() if makes_bare_bytes(tree)}
    assert bare == set()


@pytest.mark.parametrize(
    ("source", "is_caught"),
    [
        ("content.reveal()", True),
        ("give = content.reveal", True),
        ("map(Content.reveal, all)", True),
        ("getattr(content, 'reveal')()", True),
        ("content._raw", True),
        ("object.__getattribute__(content, '_raw')", True),
        ("len(content)", False),
        ("revealed = 1", False),
    ],
)
def test_sees_every_way_to_look_inside(source: str, is_caught: bool) -> None:
    """The check itself, on planted code."""
    assert reveals(ast.parse(source)) is is_caught


@pytest.mark.parametrize(
    ("source", "is_caught"),
    [
        ("plain = open_event(ring, sealed)", True),
        ("plain = sealing.open_event(ring, sealed)", True),
        ("return_(read_body(environ, limit_bytes=1))", True),
        ("content = Content(open_event(ring, sealed))", False),
        ("Content(body.read_body(environ))", False),
        ("Content(b'', open_event(ring, sealed))", True),
    ],
)
def test_sees_bytes_that_get_a_name(source: str, is_caught: bool) -> None:
    """The check itself, on planted code."""
    assert makes_bare_bytes(ast.parse(source)) is is_caught


@pytest.mark.parametrize(
    ("source", "is_caught"),
    [
        ("from relay.content import Content", True),
        ("import relay.content", True),
        ("from relay import content", True),
        ("from relay import sealing", False),
    ],
)
def test_sees_every_way_to_import_it(source: str, is_caught: bool) -> None:
    """The check itself, on planted code."""
    assert imports_content(ast.parse(source)) is is_caught


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module but the one that defines Content, by its dotted name."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if name != "relay.content":
                yield name, ast.parse(path.read_text())


def imports_content(tree: ast.Module) -> bool:
    """Whether a module imports relay.content itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        else:
            continue
        if "relay.content" in names:
            return True
    return False


def reveals(tree: ast.Module) -> bool:
    """Whether a module names `reveal` or `_raw` of some object, as an attribute or as a string."""
    return any(
        (isinstance(node, ast.Attribute) and node.attr in {"reveal", "_raw"})
        or (isinstance(node, ast.Constant) and node.value in ("reveal", "_raw"))
        for node in ast.walk(tree)
    )


def makes_bare_bytes(tree: ast.Module) -> bool:
    """Whether a maker of plain bytes is called elsewhere than as the one argument of `Content`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    wrapped = {id(call.args[0]) for call in calls if called(call) == "Content" and len(call.args) == 1}
    return any(called(call) in MAKERS and id(call) not in wrapped for call in calls)


def called(call: ast.Call) -> str:
    """The last name of what is called."""
    function = call.func
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
