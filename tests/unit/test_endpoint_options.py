"""`switchhook endpoint create`: headers and paths that could not be used are refused before anything is stored."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relay.cli import main
from relay.provisioning import Provisioning
from relay.settings import Settings

REQUIRED = {"DATABASE_URL": "postgres://user@host/db", "REDIS_URL": "redis://host", "SWITCHHOOK_KEYS": "k" * 32}


class Nowhere(Provisioning):
    """Checks as always, and keeps what would be stored."""

    def __init__(self) -> None:
        network = ipaddress.ip_network("127.0.0.0/8")
        self._settings = Settings(database_url="", redis_url="", keys="", allow_http=True, egress_allow=(network,))
        self.changes = 0

    def _changing(self, *_: Any) -> Any:
        self.changes += 1
        raise AssertionError("nothing is stored here")


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Nowhere:
    """What the command makes its endpoint with."""
    made = Nowhere()
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Provisioning, "connect", lambda _settings: made)
    return made


def create(*options: str) -> Result:
    return CliRunner().invoke(
        main, ["endpoint", "create", "--account", "acc_1", "--url", "http://127.0.0.1/", *options]
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--failure-when", "error"), "(failureWhen)"),
        (("--failure-when", "$.errors[0]"), "(failureWhen)"),
        (("--failure-when", ""), "(failureWhen)"),
        (("--header", "X-Key: secret\r\nHost: b"), "(headers)"),
        (("--header", "X-Key: secret\r\n"), "(headers)"),
        (("--header", "X-Key: secret\n"), "(headers)"),
        (("--header", "X-Key: secret\x1f"), "(headers)"),
        (("--header", "X-Key: secret\x00"), "(headers)"),
        (("--header", "X-Key: secret\u00a0"), "(headers)"),
        (("--header", "X-Key: secr\u00e9t"), "(headers)"),
        (("--header", "X-Key:"), "(headers)"),
        (("--header", "X-Key : secret"), "(headers)"),
        (("--header", " X-Key: secret"), "(headers)"),
        (("--header", "X-Key\n: secret"), "(headers)"),
        (("--header", ": secret"), "(headers)"),
        (("--header", "Host: secret"), "(headers)"),
        (("--header", "webhook-id: secret"), "(headers)"),
        (("--header", "X-Key: secret", "--header", "x-key: secret"), "(headers)"),
        (("--header", "X-Key: secret", "--header", "X-Key: secret"), "(header)"),
        (("--header", "secret"), "(header)"),
        (tuple(word for n in range(33) for word in ("--header", f"X-{n}: secret")), "(headers)"),
    ],
)  # fmt: skip
def test_refuses_what_could_not_be_used(nowhere: Nowhere, options: tuple[str, ...], told: str) -> None:
    """By the field's name, and without quoting what may be a secret."""
    done = create(*options)
    assert done.exit_code == 1
    assert told in done.output
    assert "secr" not in done.output
    assert nowhere.changes == 0


@pytest.mark.parametrize(
    "options",
    [
        ("--header", "X-Canonical-Api-Key: key", "--failure-when", "$.error"),
        ("--header", "X-Canonical-Api-Key:key"),
        ("--header", "X-Key: \t key with: a colon \t"),
    ],
)
def test_takes_what_can_be_used(nowhere: Nowhere, options: tuple[str, ...]) -> None:
    """Blanks around a value do not belong to it."""
    create(*options)
    assert nowhere.changes == 1
