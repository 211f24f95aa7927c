"""The documents say what the code does: settings, metrics, commands, codes, links, and the receivers that they show."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_args

import click
import pytest
from prometheus_client.metrics import MetricWrapperBase

from billing.assessment import _RANKS
from billing.duration import UnratedReason
from relay.cli import main
from relay.delivery.retry import SCHEDULE, AttemptResult, Failure
from relay.ingress import pressure
from relay.ingress.intake import CanaryRoute
from relay.providers import PROVIDERS, agora, canaryllm
from relay.recordings import event, request, unmeasured
from relay.recordings.schedule import SCHEDULE as RECORDING_SCHEDULE
from relay.settings import Settings
from relay.telemetry import metrics
from workers import lost, recordings

ROOT = Path(__file__).parents[2]
DIRECTORIES = (".ci", "bench", "billing", "deploy", "docs", "relay", "tests", "workers")
README = (ROOT / "README.md").read_text()
REQUIRED = {"DATABASE_URL": "postgres://user@host/db", "REDIS_URL": "redis://host", "SWITCHHOOK_KEYS": "k" * 32}
# Hosts that a lock file or a script might name; whoever installs chooses where from.
REGISTRIES = re.compile(r"pypi[.]org|pythonhosted[.]org|npmjs[.](?:org|com)|yarnpkg[.]com|crates[.]io")
# Directories of somebody's machine.
MACHINE_PATHS = re.compile(r"(?<![\w.~$}])/(?:work|root|farm|mnt|Users|home/[a-z]+)/")


def _files() -> Iterator[Path]:
    """Every file of the project: those at the root, and all below its directories."""
    yield from (path for path in ROOT.iterdir() if path.is_file())
    for name in DIRECTORIES:
        for path in (ROOT / name).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def _pages() -> list[Path]:
    return sorted(path for path in _files() if path.suffix == ".md")


def _table(text: str, heading: str) -> list[list[str]]:
    """The cells of the table that begins with this heading row."""
    _, found, rest = text.partition(f"\n| {heading} |")
    assert found, heading
    rows = rest.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def _spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# Settings


class Recorded(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def test_every_setting_is_in_the_readme() -> None:
    """The README's table has the variables that are read, and no other."""
    environ = Recorded(REQUIRED)
    Settings.from_environ(environ)
    documented = [name for row in _table(README, "variable | default | meaning") for name in _spans(row[0])]
    assert sorted(documented) == sorted(environ.names)


def test_the_readmes_defaults_are_the_defaults() -> None:
    """Setting every variable to its documented default changes nothing; what is required is what fails without."""
    defaults = {_spans(row[0])[0]: row[1] for row in _table(README, "variable | default | meaning")}
    assert {name for name, default in defaults.items() if default == "required"} == set(REQUIRED)
    explicit = {name: _spans(default)[0] for name, default in defaults.items() if _spans(default)}
    assert explicit
    assert {name for name in defaults if name not in explicit} == set(REQUIRED) | {
        name for name, default in defaults.items() if default == "none"
    }
    assert Settings.from_environ(REQUIRED | explicit) == Settings.from_environ(REQUIRED)


# Metrics


def test_every_metric_is_in_the_readme() -> None:
    """The README's table has the metrics with their labels and kinds, and no other; `process` is told beside it."""
    found = {value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)}
    labels = {family.name: metric._labelnames for metric in found for family in metric.describe()}
    expected = set()
    for family in (*metrics.REGISTRY.collect(), *metrics.SYSTEM.collect()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        names = ",".join(labels.pop(family.name, ()))
        expected.add((f"{name}{{{names}}}" if names else name, family.type))
    assert labels == {}, "in no registry"
    rows = _table(README, "metric | kind | counted by | meaning")
    assert {(_spans(row[0])[0], row[1]) for row in rows} == expected


# Commands


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))


COMMANDS = dict(_commands(main))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_explains_itself(path: tuple[str, ...]) -> None:
    """Each has a sentence in --help."""
    command = COMMANDS[path]
    assert command.help
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


def _options(command: click.Command) -> set[str]:
    """As they are typed, `--no-...` too."""
    return {text for option in command.params for text in (*option.opts, *option.secondary_opts)}


def _shown_commands(page: Path) -> Iterator[list[str]]:
    """Every `switchhook ...` in code: whole lines of blocks, joined where they go on, and spans."""
    text = page.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("    "):
            if match := re.match(r"(?:\$ )?(?:switchhook|python -m relay) (.*?)(?: {3,}#.*)?$", line.strip()):
                yield shlex.split(match[1], comments=True)
        else:
            for span in _spans(line):
                if span.startswith("switchhook "):
                    yield shlex.split(span)[1:]


def test_pages_show_only_commands_and_options_that_exist() -> None:
    """What a page tells a reader to type is understood."""
    shown = [(page.name, words) for page in _pages() for words in _shown_commands(page)]
    assert len(shown) > 20
    for page, words in shown:
        command: click.Command = main
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            assert words[0] in command.commands, f"{page}: {words[0]}"
            command = command.commands[words.pop(0)]
        known = _options(command) | {"--help", "--version"}
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= known, f"{page}: {command.name}"


def test_pages_name_only_options_that_exist() -> None:
    """An option that a sentence mentions belongs to some command."""
    known = {text for command in COMMANDS.values() for text in _options(command)} | {"--help"}
    named = {span.split()[0] for page in _pages() for span in _spans(page.read_text()) if span.startswith("--")}
    assert len(named) > 5
    assert named <= known


def test_every_command_is_shown_somewhere() -> None:
    """No command is left for the reader to find."""
    shown = {tuple(words) for page in _pages() for words in _shown_commands(page)}
    missing = [
        path
        for path, command in COMMANDS.items()
        if not isinstance(command, click.Group) and not any(words[: len(path)] == path for words in shown)
    ]
    assert missing == []


# Events and codes


def _type_rows() -> list[list[str]]:
    return _table((ROOT / "docs" / "events.md").read_text(), "type | when | class | charged | word")


@pytest.mark.parametrize("row", [row for row in _type_rows() if row[0].endswith("`")], ids=lambda row: row[0])
def test_events_become_what_their_page_says(row: list[str]) -> None:
    """Class and charge of each documented type are those that its provider's module reads."""
    name, kind = _spans(row[0])[0].split(".")
    if name == "elevenlabs" and kind in get_args(CanaryRoute):
        body = b'{"conversationId":"c"}'
        call = canaryllm.read(body, route=cast("CanaryRoute", kind), idempotency_key=None).call
    elif name == request.PROVIDER:
        assistant = request.Assistant(id="a", speaks_first=True)
        handed_in = request.HandedIn(assistant=assistant, location="", call_id="c")
        asked = request.facts_of(handed_in, account_id="acc_1", now_ms=1)
        call = event.facts_of(asked, "unreachable", now_ms=2).call
    else:
        call = PROVIDERS[name].read(_body(name, kind))
    assert call.type == f"{name}.{kind}"
    assert f"`{call.event_class}`" == row[2]
    assert (call.ending is not None) == row[3].startswith("yes")
    assert bool(row[4]) == row[3].startswith("yes")


def test_every_event_that_agora_numbers_is_in_the_events_page() -> None:
    """Under its name, with its number."""
    rows = {row[0]: row[1] for row in _type_rows()}
    assert all(f"({number})" in rows[f"`agora.{kind}`"] for number, kind in agora.KINDS.items())


def test_the_words_of_terminal_events_are_their_ranks() -> None:
    """The last column of the table is what the bill is decided by."""
    words = {tuple(_spans(row[0])[0].split(".")): int(row[4]) for row in _type_rows() if row[4]}
    assert words == _RANKS


def _body(provider: str, kind: str) -> bytes:
    if provider == agora.NAME:
        (number,) = [number for number, name in agora.KINDS.items() if name == kind]
        return b'{"productId":17,"eventType":%d,"noticeId":"n","notifyMs":1,"payload":{"agent_id":"a"}}' % number
    if provider == "retell":
        return b'{"event":"%b","call":{"call_id":"c"},"chat":{"chat_id":"c"}}' % kind.encode()
    return b'{"type":"%b","event_timestamp":1,"data":{"conversation_id":"c"}}' % kind.encode()


def test_every_reason_and_failure_is_in_the_events_page() -> None:
    """Reasons for unrated sessions, details of failed attempts and the waits between them are all there."""
    page = (ROOT / "docs" / "events.md").read_text()
    spans = set(_spans(page))
    assert set(UnratedReason) <= spans
    assert set(Failure) <= spans
    (waits,) = re.findall(r"the next attempt follows in ([^.]*?), each", page.replace("\n", " "))
    assert _seconds(waits) == [wait.total_seconds() for wait in SCHEDULE]


def test_every_failure_code_of_a_recording_is_in_the_events_page() -> None:
    """With whether it is tried again; and the waits between the tries are those of the code."""
    page = (ROOT / "docs" / "events.md").read_text()
    rows = {code: row[2] for row in _table(page, "failure code | meaning | tried again") for code in _spans(row[0])}
    ours = {unmeasured.NOT_AUDIO, unmeasured.NO_DURATION, unmeasured.TOO_LARGE, unmeasured.TRUNCATED}
    own = {recordings._POISON, recordings._CONTENT_GONE, recordings._INTERNAL_ERROR, lost.CODE}
    fetched = {AttemptResult(failure=failure).tenant_code for failure in Failure}
    assert set(rows) == ours | own | fetched | {"http_<status>"}
    assert {code for code, again in rows.items() if again == "yes"} == fetched | {"http_<status>", "internal_error"}
    (waits,) = re.findall(r"Again means after ([^;]*?), each", page.replace("\n", " "))
    assert _seconds(waits) == [wait.total_seconds() for wait in RECORDING_SCHEDULE]


def _seconds(waits: str) -> list[int]:
    units = {"s": 1, "min": 60, "h": 3600}
    return [int(number) * units[unit] for number, unit in re.findall(r"(\d+) (s|min|h)\b", waits)]


def test_every_error_code_of_the_ingress_is_in_the_routes_page() -> None:
    """Each code that a route can answer has a row."""
    sources = [
        ROOT / "relay" / name for name in ("web.py", "calls.py", "errors.py", "bodies.py", "telemetry/access.py")
    ]
    sources += [path for name in ("ingress", "providers") for path in (ROOT / "relay" / name).glob("*.py")]
    codes = {code for source in sources for code in _codes(ast.parse(source.read_text()))}
    codes |= set(get_args(pressure.Refusal))
    # Of a start that fails; and of an error that always has a code of its own.
    not_answered = {"settings_invalid", "body_invalid"}
    assert {"signature_invalid", "redis_unfit", "disk_full", "fact_too_long"} <= codes
    assert codes - not_answered <= set(_spans((ROOT / "docs" / "api.md").read_text()))


def test_every_action_of_the_audit_is_in_the_api_page() -> None:
    """Each has a row, and no other has."""
    sources = [path for name in ("relay", "workers", "billing") for path in (ROOT / name).rglob("*.py")]
    actions = {action for source in sources for action in _actions(ast.parse(source.read_text()))}
    rows = _table((ROOT / "docs" / "api.md").read_text(), "action | what happened")
    assert {span for row in rows for span in _spans(row[0])} == actions


def _actions(tree: ast.Module) -> Iterator[str]:
    """Every text of the form `object.verb` that is an `action`, or is given to what audits."""
    for node in ast.walk(tree):
        values: list[ast.expr] = []
        if isinstance(node, ast.Call) and re.search("audit|_changing_", ast.unparse(node.func)):
            values = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "action")]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "action":
            values = [node.value]
        for value in (inner for outer in values for inner in ast.walk(outer)):
            if isinstance(value, ast.Constant) and re.fullmatch(r"[a-z_]+\.[a-z_]+", str(value.value)):
                yield str(value.value)


def _codes(tree: ast.Module) -> Iterator[str]:
    """Every `code="..."` of a call and `code = "..."` of a class."""
    for node in ast.walk(tree):
        value: ast.expr | None = None
        if isinstance(node, ast.keyword) and node.arg == "code":
            value = node.value
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            value = node.value if isinstance(target, ast.Name) and target.id == "code" else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


# Pages


@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    """Each link to a file of the project finds it, and each anchor its heading."""
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert linked.is_relative_to(ROOT), target
        if anchor:
            assert anchor in _anchors(linked.read_text()), target


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def _anchors(text: str) -> set[str]:
    """Headings as code hosts name them: lower case, hyphens for spaces, other signs left out."""
    headings = re.findall(r"^#+ (.*)$", _without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_file_names_a_registry_or_a_machine() -> None:
    """Who installs decides from where, and no path of anybody's machine is left behind."""
    seen = 0
    for path in _files():
        text = path.read_text(errors="replace")
        assert not REGISTRIES.search(text), path
        assert not MACHINE_PATHS.search(text), path
        seen += 1
    assert seen > 100


def test_patterns_find_what_they_are_for() -> None:
    """The patterns of the test above are not blind."""
    assert REGISTRIES.search("https://" + "files.pythonhosted" + ".org/packages")
    assert MACHINE_PATHS.search('open("' + "/ro" + 'ot/x")')
    assert MACHINE_PATHS.search("see " + "/ho" + "me/someone/notes")
    assert not MACHINE_PATHS.search("https://host" + "/ro" + "ot/x")


# Receivers


@pytest.mark.parametrize(("name", "fence"), [("receiver.py", "python"), ("receiver.mjs", "js")])
def test_receivers_and_their_page_agree(name: str, fence: str) -> None:
    """docs/receiving.md shows the files that are tested, whole."""
    source = (ROOT / "docs" / "receivers" / name).read_text()
    assert f"```{fence}\n{source}```" in (ROOT / "docs" / "receiving.md").read_text()


@pytest.mark.parametrize(("name", "fence"), [("receiver.py", "python"), ("receiver.mjs", "js")])
def test_the_readmes_verifiers_are_the_receivers(name: str, fence: str) -> None:
    """The short versions in the README are parts of the files that are tested."""
    snippets = re.findall(rf"^```{fence}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert snippets
    source = (ROOT / "docs" / "receivers" / name).read_text()
    assert [snippet for snippet in snippets if snippet not in source] == []
