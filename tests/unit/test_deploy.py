"""The deployment files say what the code needs. They are read, not run; each check is shown to fail."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.certificates import Certificates
from tests.deployment import (
    CHECKS,
    COMPOSE,
    DOCKERFILE,
    DROP_IN,
    ENV,
    FILES,
    NGINX,
    ROOT,
    SOCKET,
    SYSTEMD,
    UNITS,
    Check,
    app_json_is_of_its_schema,
    commands_are_the_procfiles,
    compose_holds_together,
    image_is_pinned_and_unprivileged,
    processes_have_time_to_stop,
    proxy_keeps_bodies_off_the_disk,
    redis_keeps_what_it_is_given,
    settings_are_known_and_given,
    units_are_confined_and_share_the_socket,
)

UNIT_SUFFIXES = {".service", ".socket", ".target"}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_files_say_what_the_code_needs(check: Check) -> None:
    """No check finds anything in the files as they are."""
    assert list(check(FILES)) == []


@pytest.mark.parametrize(
    ("check", "path", "old", "new"),
    [
        # settings
        (settings_are_known_and_given, "app.json", '"METRICS_TOKEN": {', '"METRIC_TOKEN": {'),
        (settings_are_known_and_given, "app.json", "heroku-redis:", "redis-elsewhere:"),
        (settings_are_known_and_given, COMPOSE, "    SWITCHHOOK_KEYS_FILE:", "    SWITCHHOOK_KEY_FILE:"),
        (settings_are_known_and_given, COMPOSE, "    REDIS_URL: redis://redis:6379/0\n", ""),
        (settings_are_known_and_given, ENV, "SWITCHHOOK_PUBLIC_URL", "SWITCHHOOK_PUBLIC_URI"),
        (settings_are_known_and_given, ENV, "DATABASE_URL=postgres://", "DATABASE_URL=mysql://"),
        (settings_are_known_and_given, NGINX, "(SWITCHHOOK_BLOCKING_THREADS)", "(SWITCHHOOK_THREADS)"),
        # commands
        (commands_are_the_procfiles, "Procfile", "web: python -m relay web", "web: python -m relay web --port 80"),
        (commands_are_the_procfiles, "Procfile", "beat:", "clock: python -m relay beat\nbeat:"),
        (commands_are_the_procfiles, COMPOSE, "[python, -m, relay, beat]", "[python, -m, relay, worker]"),
        (commands_are_the_procfiles, UNITS["web"], " --fd 3", ""),
        (commands_are_the_procfiles, UNITS["release"], "relay migrate", "relay web"),
        (commands_are_the_procfiles, DOCKERFILE, '"relay", "web"', '"relay", "worker"'),
        (commands_are_the_procfiles, "app.json", '"beat": {"quantity": 1}', '"beat": {"quantity": 0}'),
        # stopping
        (processes_have_time_to_stop, COMPOSE, "stop_grace_period: 30s", "stop_grace_period: 10s"),
        (processes_have_time_to_stop, COMPOSE, "  stop_grace_period: 30s\n", ""),
        (processes_have_time_to_stop, DROP_IN, "TimeoutStopSec=30", "TimeoutStopSec=20"),
        (processes_have_time_to_stop, DROP_IN, "KillSignal=SIGTERM", "KillSignal=SIGINT"),
        (processes_have_time_to_stop, DROP_IN, "KillMode=mixed", "KillMode=control-group"),
        (processes_have_time_to_stop, DOCKERFILE, "STOPSIGNAL SIGTERM", "STOPSIGNAL SIGKILL"),
        # Redis
        (redis_keeps_what_it_is_given, COMPOSE, "- noeviction", "- allkeys-lru"),
        (redis_keeps_what_it_is_given, COMPOSE, '      - "yes"', '      - "no"'),
        (redis_keeps_what_it_is_given, COMPOSE, "      - always", '      - "no"'),
        (redis_keeps_what_it_is_given, COMPOSE, "- 2gb", '- "0"'),
        (redis_keeps_what_it_is_given, COMPOSE, "redis-data:/data", "redis-data:/elsewhere"),
        (redis_keeps_what_it_is_given, DROP_IN, "[Service]", "# volatile-ttl\n[Service]"),
        # compose
        (compose_holds_together, COMPOSE, "  switchhook_keys: {file:", "  keys: {file:"),
        (compose_holds_together, COMPOSE, "  outside: {}\n", ""),
        (compose_holds_together, COMPOSE, "  postgres-data: {}\n", ""),
        (compose_holds_together, COMPOSE, "      test: [CMD, redis-cli, ping]\n", ""),
        (compose_holds_together, COMPOSE, "      postgres: {condition:", "      database: {condition:"),
        (compose_holds_together, COMPOSE, "/run/secrets/metrics_token", "/run/secrets/token"),
        (compose_holds_together, COMPOSE, "METRICS_TOKEN_FILE: ", "METRICS_TOKEN: "),
        (compose_holds_together, COMPOSE, "service_completed_successfully", "service_started"),
        (compose_holds_together, COMPOSE, "data: {internal: true}", "data: {}"),
        (compose_holds_together, COMPOSE, '    ports: ["127', '    healthcheck: {disable: true}\n    ports: ["127'),
        # app.json
        (app_json_is_of_its_schema, "app.json", '"formation":', '"formations":'),
        (app_json_is_of_its_schema, "app.json", '"required": true', '"requires": true'),
        (app_json_is_of_its_schema, "app.json", '"generator": "secret"', '"value": "secret"'),
        (app_json_is_of_its_schema, "app.json", '"The bearer token of /metrics."', '""'),
        # the image
        (image_is_pinned_and_unprivileged, ".python-version", "3.11", "3.12"),
        (image_is_pinned_and_unprivileged, DOCKERFILE, " --require-hashes", ""),
        (image_is_pinned_and_unprivileged, DOCKERFILE, "USER 10001:10001\n", ""),
        (image_is_pinned_and_unprivileged, DOCKERFILE, "USER 10001:10001", "USER 0:0"),
        (image_is_pinned_and_unprivileged, DOCKERFILE, "COPY workers workers", "COPY tests tests"),
        (image_is_pinned_and_unprivileged, DOCKERFILE, "sys.exit(web", "sys.exit web"),
        (image_is_pinned_and_unprivileged, ".dockerignore", "*\n!billing", "!billing"),
        # units
        (units_are_confined_and_share_the_socket, DROP_IN, "NoNewPrivileges=yes\n", ""),
        (units_are_confined_and_share_the_socket, DROP_IN, "User=switchhook", "User=root"),
        (units_are_confined_and_share_the_socket, UNITS["beat"], " switchhook-migrate.service", ""),
        (units_are_confined_and_share_the_socket, UNITS["web"], "Sockets=", "Socket="),
        (units_are_confined_and_share_the_socket, UNITS["web"], "NonBlocking=yes\n", ""),
        (units_are_confined_and_share_the_socket, SOCKET, "Backlog=2048", "Backlog=128"),
        # nginx
        (proxy_keeps_bodies_off_the_disk, NGINX, "proxy_request_buffering on;", "proxy_request_buffering off;"),
        (proxy_keeps_bodies_off_the_disk, NGINX, "client_body_buffer_size 11m", "client_body_buffer_size 1m"),
        (proxy_keeps_bodies_off_the_disk, NGINX, "client_body_buffer_size 66m", "client_body_buffer_size 16m"),
        (proxy_keeps_bodies_off_the_disk, NGINX, "_size 66m", "_size 60m"),
        (proxy_keeps_bodies_off_the_disk, NGINX, "proxy_next_upstream off", "proxy_next_upstream error"),
        (proxy_keeps_bodies_off_the_disk, NGINX, "    proxy_buffering off;\n", ""),
        (proxy_keeps_bodies_off_the_disk, NGINX, "server 127.0.0.1:8000;", "server 127.0.0.1:8000;\n    keepalive 8;"),
        (proxy_keeps_bodies_off_the_disk, NGINX, "^~ /metrics", "^~ /metric"),
        (proxy_keeps_bodies_off_the_disk, NGINX, "return 404;", "return 404"),
        (proxy_keeps_bodies_off_the_disk, NGINX, "location / {", "location /"),
    ],
)
def test_a_change_for_the_worse_is_found(check: Check, path: str, old: str, new: str) -> None:
    """Each check finds what it is for, in a copy with one change."""
    assert old in FILES[path]
    changed = {**FILES, path: FILES[path].replace(old, new)}

    assert list(check(changed)) != []


def verify_units(directory: Path) -> str:
    """What systemd says of the units, their Python replaced by one that is here."""
    shutil.copytree(ROOT / SYSTEMD, directory, dirs_exist_ok=True)
    for path in directory.glob("*.service"):
        path.write_text(path.read_text().replace("/opt/switchhook/current/.venv/bin/python", sys.executable))
    names = [path.name.replace("@.", "@1.") for path in directory.iterdir() if path.suffix in UNIT_SUFFIXES]
    assert len(names) == 6
    command = ["systemd-analyze", "verify", "--man=no", *(str(directory / name) for name in sorted(names))]
    report = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return report.stderr + report.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """It has no word to say about them; about one with an unknown option it has."""
    assert verify_units(tmp_path) == ""
    unit_file = tmp_path / "switchhook-beat.service"
    unit_file.write_text(unit_file.read_text().replace("RestartSec=", "RestartSeconds="))
    command = ["systemd-analyze", "verify", "--man=no", str(unit_file)]
    report = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert "RestartSeconds" in report.stderr


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_understands_the_site(tmp_path: Path) -> None:
    """`nginx -t` accepts it, with a certificate, ports and directories that anybody may use."""
    Certificates(tmp_path)
    site = re.sub(r"(ssl_certificate(?:_key)?) \S+;", rf"\1 {tmp_path}/good.pem;", FILES[NGINX])
    site = site.replace(":443 ssl", ":18443 ssl").replace(" 443 ssl", " 18443 ssl").replace("/var/log/nginx/", "")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    whole = tmp_path / "nginx.conf"
    whole.write_text(f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ {temporary}\n{site}\n}}")
    command = ["nginx", "-t", "-p", str(tmp_path), "-c", str(whole)]
    report = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert report.returncode == 0, report.stderr
