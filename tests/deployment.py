"""The deployment files as data, and checks of what they say against what the code needs. Nothing is run."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import yaml

from relay import server
from relay.bodies import AUDIO_LIMIT_BYTES
from relay.errors import SettingsError
from relay.settings import Settings
from tests.nginx import blocks, flat, nginx

ROOT = Path(__file__).parents[1]
FILES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [
        *(ROOT / name for name in ("Procfile", "app.json", ".dockerignore", ".python-version")),
        *(path for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.parent.name != "secrets"),
    ]
}
SYSTEMD = "deploy/systemd/"
DROP_IN = SYSTEMD + "switchhook-.service.d/common.conf"
COMPOSE, NGINX, DOCKERFILE = "deploy/compose.yaml", "deploy/nginx.conf", "deploy/Dockerfile"
ENV, SOCKET = SYSTEMD + "switchhook.env", SYSTEMD + "switchhook-web.socket"
UNITS = {
    "release": SYSTEMD + "switchhook-migrate.service",
    "web": SYSTEMD + "switchhook-web@.service",
    "worker": SYSTEMD + "switchhook-worker@.service",
    "beat": SYSTEMD + "switchhook-beat.service",
}
REQUIRED = {"DATABASE_URL": "postgres://user@host/db", "REDIS_URL": "redis://host", "SWITCHHOOK_KEYS": "k" * 32}
# What starts without and is of little use: no URL that a provider could be given, no metrics.
EXPECTED = {*REQUIRED, "SWITCHHOOK_PUBLIC_URL", "METRICS_TOKEN"}
# What platforms leave a process between SIGTERM and SIGKILL, and web and workers count on.
GRACE_SECONDS = 30
# Heroku's app.json schema, and of Dokku's what is not in it.
APP_KEYS = {"name", "description", "keywords", "website", "repository", "logo", "success_url", "scripts", "env"}
APP_KEYS |= {"formation", "image", "addons", "buildpacks", "environments", "stack", "healthchecks"}
ENV_KEYS = {"description", "generator", "value", "required"}
HARDENING = {"NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "CapabilityBoundingSet"}
HARDENING |= {"SystemCallFilter", "RestrictAddressFamilies", "User", "UMask"}

Files = Mapping[str, str]
Check = Callable[[Files], Iterator[str]]


def known_settings() -> set[str]:
    """The variables that `relay.settings` reads."""
    environ = Mock(wraps=REQUIRED)
    Settings.from_environ(environ)
    return {call.args[0] for call in environ.get.call_args_list}


def processes(files: Files) -> dict[str, list[str]]:
    """The Procfile's commands by their process."""
    lines = (line.partition(":") for line in files["Procfile"].splitlines())
    return {name: shlex.split(command) for name, _, command in lines}


def compose(files: Files) -> dict[str, Any]:
    """compose.yaml, its aliases and merges resolved."""
    return dict(yaml.safe_load(files[COMPOSE]))


def unit(files: Files, *names: str) -> configparser.ConfigParser:
    """One unit, with the drop-ins that follow it."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment]
    for name in names:
        parser.read_string(files[name], name)
    return parser


def assignments(text: str) -> dict[str, str]:
    """The variables of an EnvironmentFile."""
    lines = (line.partition("=") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in lines}


def settings_are_known_and_given(files: Files) -> Iterator[str]:
    """Every name is read by the code, and each form of deployment gives what is needed."""
    app, services = json.loads(files["app.json"]), compose(files)["services"]
    plans = {addon["plan"].partition(":")[0] for addon in app["addons"]}
    from_addons = {
        name for name, plan in (("DATABASE_URL", "heroku-postgresql"), ("REDIS_URL", "heroku-redis")) if plan in plans
    }
    given = {f"compose {name}": set(services[name]["environment"]) for name in processes(files)}
    given["app.json"] = set(app["env"]) | from_addons
    given["systemd"] = set(assignments(files[ENV]))
    for form, names in given.items():
        yield from (f"{form}: {name} is no setting" for name in names - known_settings())
        lacking = EXPECTED - {name.removesuffix("_FILE") for name in names}
        yield from (f"{form}: {name} is not given" for name in lacking)
    for path, text in files.items():
        named = set(re.findall(r"\bSWITCHHOOK_[A-Z_]+", text)) - {"SWITCHHOOK_VERSION"}  # compose's own, for the image
        yield from (f"{path}: {name} is no setting" for name in named - known_settings())
    example = assignments(files[ENV])
    try:
        Settings.from_environ({name: value or REQUIRED.get(name, "") for name, value in example.items()})
    except SettingsError as error:
        yield f"systemd: {error}"


def commands_are_the_procfiles(files: Files) -> Iterator[str]:
    """Each form runs every process, by the same command; systemd's web also takes the socket that it is handed."""
    services = compose(files)["services"]
    for name, command in processes(files).items():
        if services.get(name, {}).get("command") != command:
            yield f"compose {name}: another command"
        if name not in UNITS:
            yield f"systemd {name}: no unit"
            continue
        exec_start = shlex.split(unit(files, UNITS[name])["Service"]["ExecStart"])
        expected = command[1:] + (["--fd", "3"] if name == "web" else [])
        if exec_start[0] != "/opt/switchhook/current/.venv/bin/python" or exec_start[1:] != expected:
            yield f"systemd {name}: another command"
    if json.loads(re.findall(r"^CMD (.*)$", files[DOCKERFILE], re.MULTILINE)[-1]) != processes(files)["web"]:
        yield "Dockerfile: another command"
    formation = json.loads(files["app.json"])["formation"]
    if set(formation) != set(processes(files)) - {"release"} or any(row["quantity"] < 1 for row in formation.values()):
        yield "app.json: another formation"


def processes_have_time_to_stop(files: Files) -> Iterator[str]:
    """SIGTERM, and at least 30 s before anything harder; web needs less than that."""
    for name in processes(files):
        period = compose(files)["services"][name].get("stop_grace_period", "10s")
        if int(period.removesuffix("s")) < GRACE_SECONDS:
            yield f"compose {name}: {period} to stop"
        service = unit(files, UNITS[name], DROP_IN)["Service"]
        if int(service.get("TimeoutStopSec", "0")) < GRACE_SECONDS or service.get("KillSignal") != "SIGTERM":
            yield f"systemd {name}: stopped too soon or otherwise than by SIGTERM"
        if service.get("KillMode") != "mixed":
            yield f"systemd {name}: SIGTERM for all its processes at once"
    if "\nSTOPSIGNAL SIGTERM\n" not in files[DOCKERFILE]:
        yield "Dockerfile: another signal"
    if server._STOP_SECONDS >= GRACE_SECONDS:
        yield "web takes longer than it is given"


def redis_keeps_what_it_is_given(files: Files) -> Iterator[str]:
    """An append-only file, a limit, no eviction, a volume; and nowhere an evicting policy."""
    redis = compose(files)["services"]["redis"]
    words = redis["command"]
    options = {word: words[place + 1] for place, word in enumerate(words) if word.startswith("--")}
    expected = {"--appendonly": {"yes"}, "--appendfsync": {"always", "everysec"}, "--maxmemory-policy": {"noeviction"}}
    yield from (
        f"redis: {name} {options.get(name)}" for name, good in expected.items() if options.get(name) not in good
    )
    if not re.fullmatch(r"[1-9]\d*(?:mb|gb)", options.get("--maxmemory", "")):
        yield "redis: no limit"
    if not any(volume.endswith(":/data") for volume in redis["volumes"]):
        yield "redis: no volume"
    for path, text in files.items():
        yield from (f"{path}: {policy}" for policy in re.findall(r"(?:allkeys|volatile)-\w+", text))


def compose_holds_together(files: Files) -> Iterator[str]:
    """What services name is declared; what others wait for is checked; secrets are files; the data has no way out."""
    whole = compose(files)
    services = whole["services"]
    for name, service in services.items():
        for kind in ("secrets", "networks"):
            yield from (f"{name}: unknown {kind}" for one in service.get(kind, []) if one not in whole[kind])
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", [])}
        yield from (f"{name}: unknown volume {volume}" for volume in volumes - set(whole["volumes"]))
        for other, wanted in service.get("depends_on", {}).items():
            if other not in services:
                yield f"{name}: waits for an unknown service"
            elif wanted["condition"] == "service_healthy" and "test" not in services[other].get("healthcheck", {}):
                yield f"{name}: {other} has no health to wait for"
        for variable, value in (service.get("environment") or {}).items():
            if variable.endswith("_FILE") and value.removeprefix("/run/secrets/") not in service["secrets"]:
                yield f"{name}: {variable} names no secret of it"
            if variable in {"DATABASE_URL", "SWITCHHOOK_KEYS", "METRICS_TOKEN", "POSTGRES_PASSWORD"}:
                yield f"{name}: {variable} is no file"
    for name in set(processes(files)) - {"release"}:
        if services[name]["depends_on"].get("release", {}).get("condition") != "service_completed_successfully":
            yield f"{name}: does not wait for the release"
    stored = {*services["redis"]["networks"], *services["postgres"]["networks"]}
    if not whole["networks"]["data"].get("internal") or stored != {"data"}:
        yield "redis or postgres: reached from outside"
    if services["web"].get("healthcheck", {}).get("disable"):
        yield "web: no health"


def app_json_is_of_its_schema(files: Files) -> Iterator[str]:
    """Known keys only, secrets generated, everything described."""
    app = json.loads(files["app.json"])
    yield from (f"app.json: {key}" for key in set(app) - APP_KEYS)
    for name, entry in app["env"].items():
        yield from (f"app.json: {name}: {key}" for key in set(entry) - ENV_KEYS)
        if not entry.get("description"):
            yield f"app.json: {name}: no description"
    for name in ("SWITCHHOOK_KEYS", "METRICS_TOKEN"):
        if app["env"][name].get("generator") != "secret" or "value" in app["env"][name]:
            yield f"app.json: {name}: not generated"


def image_is_pinned_and_unprivileged(files: Files) -> Iterator[str]:
    """The pinned dependencies by their hashes, the tried Python, no root, a health check that Python understands."""
    text = files[DOCKERFILE].replace("\\\n", " ")
    rows = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    bases = {row[1].split()[0] for row in rows if row[0] == "FROM"}
    if bases != {f"python:{files['.python-version'].strip()}-slim"}:
        yield f"Dockerfile: from {sorted(bases)}"
    if not re.search(r"pip install .*--only-binary :all: --require-hashes -r /requirements\.txt", text):
        yield "Dockerfile: dependencies that are not pinned"
    users = [row[1] for row in rows if row[0] == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
        yield "Dockerfile: root"
    allowed = {line[1:] for line in files[".dockerignore"].splitlines() if line.startswith("!")}
    copied = {row[1].split()[0] for row in rows if row[0] == "COPY" and not row[1].startswith("--from")}
    yield from (f"Dockerfile: {path} is not in the build" for path in copied - allowed)
    yield from (f"Dockerfile: {path} does not exist" for path in copied if not (ROOT / path).exists())
    if "*" not in files[".dockerignore"].splitlines():
        yield ".dockerignore: lets everything in"
    health = [row[1] for row in rows if row[0] == "HEALTHCHECK"]
    command = json.loads(health[0].partition("CMD ")[2]) if health else ["", "", "?"]
    try:
        compile(command[2], "healthcheck", "exec")
    except SyntaxError:
        yield "Dockerfile: no health check"


def units_are_confined_and_share_the_socket(files: Files) -> Iterator[str]:
    """The hardening options are on, and web takes the socket that is open before and after it."""
    for name, path in UNITS.items():
        service = unit(files, path, DROP_IN)["Service"]
        yield from (f"systemd {name}: no {option}" for option in HARDENING - set(service))
        if service.get("User") in {None, "root"} or service.get("EnvironmentFile") != "/etc/switchhook/switchhook.env":
            yield f"systemd {name}: its user or settings"
        after = unit(files, path)["Unit"].get("After", "").split()
        if name != "release" and "switchhook-migrate.service" not in after:
            yield f"systemd {name}: not after the release"
    web, opened = unit(files, UNITS["web"]), unit(files, SOCKET)["Socket"]
    if (
        web["Service"].get("Sockets") != "switchhook-web.socket"
        or web["Unit"].get("Requires") != "switchhook-web.socket"
    ):
        yield "systemd web: no socket"
    if web["Service"].get("NonBlocking") != "yes":
        yield "systemd web: a socket that blocks"
    if int(opened.get("Backlog", "0")) < server.BACKLOG or opened["Service"] != "switchhook-web@1.service":
        yield "systemd socket: its queue or its service"


def proxy_keeps_bodies_off_the_disk(files: Files) -> Iterator[str]:
    """Bodies are read whole into memory as large as the limit; no POST is sent twice; metrics are not shown."""
    try:
        root = nginx(files[NGINX])
    except ValueError as error:
        yield f"nginx: {error}"
        return
    site, upstream = blocks(root, "server")["server"], blocks(root, "upstream")["switchhook_web"]
    expected = {
        "client_body_in_file_only": "off",
        "proxy_request_buffering": "on",
        "proxy_buffering": "off",
        "proxy_max_temp_file_size": "0",
        "proxy_next_upstream": "off",
    }
    outer = flat(site)
    yield from (f"nginx: {name} {outer.get(name)}" for name, value in expected.items() if outer.get(name) != value)
    if "keepalive" in flat(upstream):
        yield "nginx: connections to web that are kept"
    locations = {path: flat(inner) for path, inner in blocks(site, "location").items()}
    if locations.get("/metrics") != {"return": "404"}:
        yield "nginx: /metrics is shown"
    limits = {"/": REQUIRED_BODY, "/api/v1/webhooks/elevenlabs/": AUDIO_LIMIT_BYTES}
    for path, least in limits.items():
        here = outer | locations.get(path, {})
        size, buffer = (here.get(name, "0m") for name in ("client_max_body_size", "client_body_buffer_size"))
        if size != buffer or int(size.removesuffix("m")) * 1024 * 1024 < least:
            yield f"nginx: {path} takes {size} and buffers {buffer}"


REQUIRED_BODY = Settings.from_environ(REQUIRED).max_body_bytes
CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        settings_are_known_and_given,
        commands_are_the_procfiles,
        processes_have_time_to_stop,
        redis_keeps_what_it_is_given,
        compose_holds_together,
        app_json_is_of_its_schema,
        image_is_pinned_and_unprivileged,
        units_are_confined_and_share_the_socket,
        proxy_keeps_bodies_off_the_disk,
    )
}
