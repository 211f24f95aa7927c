"""The shape of the code as a build check: routes, names, sizes, and which way its arrows run."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import fakeredis
import pytest
from flask import Flask

from relay import web
from relay.api.routes import operations
from relay.directory.mirror import COMPLETE
from relay.ingress.commit import GroupCommit
from relay.settings import Settings
from relay.telemetry import logs

ROOT = Path(__file__).parents[2]
PACKAGES = ("relay", "billing", "workers")
MOST_LINES = 500
# Words for what has no name of its own; a module is called by the thing that it holds.
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}
ERRORS_ONLY_FLASK_ADDS = {"HEAD", "OPTIONS"}
METRICS_TOKEN = "token-for-scrapes"


class Proof(NamedTuple):
    """Who proves what at a route, in the words of docs/api.md, and the answer to somebody who proves nothing."""

    who: str
    refusal: int


ROUTES = {
    "POST /api/v1/webhooks/<provider>/<source_id>": Proof("the provider's signature under a secret of the source", 404),
    "POST /api/v1/webhooks/retell": Proof("`X-Canonical-Api-Key`: an API key of the account", 401),
    "POST /api/convagents/webhook/event": Proof("`X-Webhook-Secret` of a template", 401),
    "POST /api/convagents/webhook/complete": Proof(
        "`X-Webhook-Secret` of a template, or ElevenLabs' signature under a secret of a source of its account", 401
    ),
    "POST /api/convagents/webhook/context": Proof("`X-Webhook-Secret` of a template", 401),
    "GET /metrics": Proof("`METRICS_TOKEN` as a bearer token, if it is set", 401),
    "GET /livez": Proof("nobody: it tells only that the process answers", 200),
    "GET /readyz": Proof("nobody: it tells only whether Redis answers", 200),
}


# The control API's: each declares its access itself.
OPERATIONS = {f"{operation.method} {operation.path}" for operation in operations()}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Flask:
    """The application on a Redis that knows every account, of which there is none."""
    client = fakeredis.FakeRedis()
    client.set(COMPLETE, 1)
    monkeypatch.setattr(web, "redis_client", lambda _settings, **_options: client)
    monkeypatch.setattr(GroupCommit, "start", lambda _self: None)
    monkeypatch.setattr(logs, "configure", lambda _level: None)
    settings = Settings(
        database_url="postgresql+psycopg://nobody@localhost/nowhere",
        redis_url="redis://localhost:1",
        keys="k" * 32,
        metrics_token=METRICS_TOKEN,
    )
    return web.create_app(settings)


def test_every_route_declares_who_proves_what(app: Flask) -> None:
    """A new route is a conscious decision about its authentication: here and in docs/api.md, or in its operation."""
    assert set(_routes(app)) == set(ROUTES) | OPERATIONS
    assert _documented_proofs() == {route: proof.who for route, proof in ROUTES.items()}


@pytest.mark.parametrize("route", ROUTES)
def test_refuses_who_proves_nothing(app: Flask, route: str) -> None:
    """A request without any proof gets what the table says; an unguessable source id is the first proof of all."""
    method, path = route.split()
    path = path.replace("<provider>", "retell").replace("<source_id>", "src_unknown")
    answer = app.test_client().open(path, method=method, data=b"{}")
    assert answer.status_code == ROUTES[route].refusal


def test_every_route_has_a_section(app: Flask) -> None:
    """docs/api.md has a section for each route of the ingress, and none for a route that is not there."""
    headings = re.findall(r"^## `([A-Z]+ /\S*)`$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(set(_routes(app)) - OPERATIONS)


def test_no_module_is_long() -> None:
    """What grows past 500 lines holds two things."""
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in _sources(".py", ".lua")}
    assert len(lengths) > 50
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_module_is_nameless() -> None:
    """Modules and packages are named by what they hold."""
    paths = [*_sources(".py"), *(ROOT / "tests").rglob("*.py")]
    assert [path for path in paths if NAMELESS & set(path.relative_to(ROOT).with_suffix("").parts)] == []


def test_every_module_says_what_it_holds() -> None:
    """Each module begins with a docstring."""
    assert {str(path) for path in _sources(".py") if ast.get_docstring(ast.parse(path.read_text())) is None} == set()


def test_every_module_of_relay_has_its_layer() -> None:
    """The layers name every part of `relay`, so that a new one cannot stand beside them."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (contract["layers"] for contract in configuration["contracts"] if contract["id"] == "layers")
    named = {name.strip() for layer in layers for name in layer.split("|")}
    parts = {
        path.stem for path in (ROOT / "relay").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert {f"relay.{part}" for part in parts - {"__init__"}} <= named


def test_the_architecture_page_names_every_layer() -> None:
    """So that a reader finds each part of the tree."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (contract["layers"] for contract in configuration["contracts"] if contract["id"] == "layers")
    named = {name.strip() for layer in layers for name in layer.split("|")} - {"relay.__main__"}
    _, _, listed = (ROOT / "docs" / "architecture.md").read_text().partition("\n## Layers\n")
    assert named <= set(re.findall(r"[a-z_]+(?:\.[a-z_]+)?", listed))


def test_an_installed_package_has_all_its_files() -> None:
    """Scripts, payloads and markers beside the modules are named as package data, or a wheel would lack them."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package in PACKAGES:
        beside = {path for path in (ROOT / package).rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}}
        packed = {path for pattern in data[package] for path in (ROOT / package).glob(pattern)}
        assert beside - packed == set()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the packages and their contracts, to do harm to."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_import_contracts_hold(copied: Path) -> None:
    """Arrows run one way, content stays where it may be, and arithmetic imports nothing."""
    assert _broken_contracts(copied) == set()


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        pytest.param("relay/delivery/quarantine.py", "import relay.web", {"layers"}, id="an arrow that runs up"),
        pytest.param("billing/cost.py", "import relay.content", {"privacy"}, id="content where bills are made"),
        pytest.param(
            "relay/outbox/keys.py", "import relay.delivery.envelope", {"layers", "privacy"}, id="content by a detour"
        ),
        pytest.param("relay/cli/listing.py", "import relay.delivery.envelope", {"privacy"}, id="content in a listing"),
        pytest.param("workers/record.py", "import relay.delivery.courier", {"privacy"}, id="content in a record"),
        pytest.param("billing/money.py", "import flask", {"arithmetic"}, id="a library in the arithmetic"),
        pytest.param("relay/calls.py", "import redis", {"arithmetic"}, id="a library behind the arithmetic"),
        pytest.param("workers/recordings.py", "import relay.delivery.courier", set(), id="what is allowed"),
    ],
)
def test_a_planted_violation_is_caught(copied: Path, module: str, line: str, broken: set[str]) -> None:
    """One forbidden import breaks its contract and no other; an allowed one breaks none."""
    planted = copied / module
    planted.write_text(planted.read_text() + f"\n{line}\n")
    assert _broken_contracts(copied) == broken


def _broken_contracts(directory: Path) -> set[str]:
    """The ids of the contracts that `lint-imports` finds broken, each by its name in the report."""
    report = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo", "--config", "pyproject.toml"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    contracts = tomllib.loads((directory / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    verdicts = dict(re.findall(r"^(.+) (KEPT|BROKEN)$", report.stdout, re.MULTILINE))
    assert {contract["name"] for contract in contracts} <= set(verdicts), report.stdout + report.stderr
    broken = {contract["id"] for contract in contracts if verdicts[contract["name"]] == "BROKEN"}
    assert bool(broken) == bool(report.returncode)
    return broken


def _routes(app: Flask) -> Iterator[str]:
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - ERRORS_ONLY_FLASK_ADDS:
            yield f"{method} {rule.rule}"


def _documented_proofs() -> dict[str, str]:
    rows = re.findall(r"^\| `([A-Z]+ /\S*)` \| ([^|]+) \|", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    return {route: proof.strip() for route, proof in rows}


def _sources(*suffixes: str) -> Iterator[Path]:
    for package in (*PACKAGES, "bench"):
        yield from (path for path in (ROOT / package).rglob("*") if path.suffix in suffixes)
