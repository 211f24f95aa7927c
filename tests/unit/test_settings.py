"""Settings: read once, checked at start, each complaint by the variable's name."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from pathlib import Path

import pytest

from relay.errors import SettingsError
from relay.settings import ProviderAccess, Settings, broker_url

NEEDED = {
    "DATABASE_URL": "postgres://u:p@host/db",
    "REDIS_URL": "redis://host:6379/0",
    "SWITCHHOOK_KEYS": "x" * 40,
}
MIB = 1024 * 1024


def read(**variables: str) -> Settings:
    return Settings.from_environ(NEEDED | variables)


def test_three_variables_are_enough() -> None:
    """Everything else has a default that is safe in production."""
    settings = read()
    assert settings == Settings(
        database_url="postgresql+psycopg://u:p@host/db", redis_url="redis://host:6379/0", keys="x" * 40
    )
    assert (settings.port, settings.host) == (8000, "0.0.0.0")
    assert settings.allow_http is False
    assert settings.egress_allow == ()
    assert settings.redis_tls_verify == "required"
    assert settings.max_body_bytes == 10 * MIB
    assert settings.retention == timedelta(hours=96)


def test_reads_every_variable(tmp_path: Path) -> None:
    """Into one typed object."""
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    settings = read(
        REDIS_TLS_VERIFY="none",
        HOST="127.0.0.1",
        PORT="9000",
        SWITCHHOOK_PUBLIC_URL="https://hooks.example/",
        WEB_CONCURRENCY="4",
        SWITCHHOOK_BLOCKING_THREADS="64",
        SWITCHHOOK_ALLOW_HTTP="1",
        SWITCHHOOK_EGRESS_ALLOW="10.0.0.0/8, fd00::/8",
        SWITCHHOOK_MAX_BODY="2048",
        SWITCHHOOK_RETENTION_HOURS="24",
        SWITCHHOOK_ACCOUNT_QUOTA="1048576",
        SWITCHHOOK_CA_FILE=str(ca_file),
        METRICS_TOKEN="token",
        SWITCHHOOK_METRICS_PORT="9100",
        DYNO="web.1",
        LOG_LEVEL="DEBUG",
        SWITCHHOOK_RETELL_BASE_URL="http://127.0.0.1:1/",
        SWITCHHOOK_RETELL_API_KEY="key",
    )
    assert settings == Settings(
        database_url="postgresql+psycopg://u:p@host/db",
        redis_url="redis://host:6379/0",
        keys="x" * 40,
        redis_tls_verify="none",
        host="127.0.0.1",
        port=9000,
        public_url="https://hooks.example",
        web_concurrency=4,
        blocking_threads=64,
        allow_http=True,
        egress_allow=(ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")),
        max_body_bytes=2048,
        retention=timedelta(hours=24),
        account_quota_bytes=MIB,
        ca_file=str(ca_file),
        metrics_token="token",
        metrics_port=9100,
        dyno="web.1",
        log_level="DEBUG",
        retell=ProviderAccess(base_url="http://127.0.0.1:1", api_key="key"),
    )


def test_the_public_url_follows_the_port() -> None:
    """Until it is set."""
    assert read(PORT="9000").public_url == "http://localhost:9000"


@pytest.mark.parametrize("name", sorted(NEEDED))
@pytest.mark.parametrize("value", [None, "", "  "])
def test_what_is_needed_is_asked_for_by_name(name: str, value: str | None) -> None:
    """With what to write there."""
    environ = {key: given for key, given in NEEDED.items() if key != name}
    if value is not None:
        environ[name] = value
    with pytest.raises(SettingsError, match=f"^{name} is not set: give "):
        Settings.from_environ(environ)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("DATABASE_URL", ["host/db", "mysql://host/db", "sqlite:///x", "postgres:/host", "postgres+asyncpg://h/db"]),
        ("DATABASE_URL", ["postgres://u:s3cret@host:port/db", "postgres://u:s3cret@host:99999999/db"]),
        ("REDIS_URL", ["host:6379", "http://host", "redis:/host", "valkey://host"]),
        ("REDIS_URL", ["redis://:s3cret@host:port/0", "redis://:s3cret/word@host:6379/0", "redis://host:99999/0"]),
        ("REDIS_TLS_VERIFY", ["yes", "0", "REQUIRED", "optional"]),
        ("PORT", ["0", "65536", "-1", "80a", "8e3", "1_0", "\u0661", "8000.0", "9" * 5_000]),
        ("WEB_CONCURRENCY", ["0", "257", "many"]),
        ("SWITCHHOOK_BLOCKING_THREADS", ["0", "4097", "auto"]),
        ("SWITCHHOOK_PUBLIC_URL", ["hooks.example", "ftp://hooks.example", "//hooks.example"]),
        ("SWITCHHOOK_ALLOW_HTTP", ["true", "yes", "2", "on"]),
        ("SWITCHHOOK_EGRESS_ALLOW", ["10.0.0.0/33", "10.0.0.1/8", "localhost", "10.0.0.0/8;fd00::/8"]),
        ("SWITCHHOOK_MAX_BODY", ["1023", "10MB", "1e7", str(1024 * MIB + 1)]),
        ("SWITCHHOOK_RETENTION_HOURS", ["0", "1", "721", "96h"]),
        ("SWITCHHOOK_ACCOUNT_QUOTA", ["0", "-5", "unlimited"]),
        ("SWITCHHOOK_CA_FILE", ["/nonexistent/ca.pem", "/"]),
        ("LOG_LEVEL", ["info", "TRACE", "10"]),
        ("SWITCHHOOK_ELEVENLABS_BASE_URL", ["api.elevenlabs.io"]),
        ("SWITCHHOOK_RETELL_BASE_URL", ["api.retellai.com"]),
        ("SWITCHHOOK_AGORA_BASE_URL", ["api.agora.io"]),
        ("SWITCHHOOK_STRIPE_BASE_URL", ["api.stripe.com", "http://api.stripe.com"]),
        ("SWITCHHOOK_STRIPE_EVENT_NAME", ["x" * 101, "a\tb"]),
        ("SWITCHHOOK_LAGO_BASE_URL", ["http://lago.internal:3000"]),
        ("SWITCHHOOK_LAGO_CODE", ["x" * 101]),
        ("SWITCHHOOK_OPENMETER_BASE_URL", ["openmeter", "http://openmeter:8888"]),
        ("SWITCHHOOK_OPENMETER_EVENT_TYPE", ["x" * 101]),
    ],
)
def test_nonsense_is_refused_by_the_variables_name(name: str, values: list[str]) -> None:
    """At start, not at the first use; a secret in it is not quoted."""
    for value in values:
        with pytest.raises(SettingsError) as refused:
            read(**{name: value})
        assert str(refused.value).startswith(name), value
        assert "s3cret" not in f"{refused.value} {refused.value.__cause__!r} {refused.value.__context__!r}"


# -- where charges are sent


def test_charges_are_sent_where_there_is_a_key_or_an_address_that_needs_none() -> None:
    """Nothing is configured by itself, and OpenMeter on one's own machines has no keys."""
    plain = read()
    assert not any(one.is_configured for one in (plain.stripe, plain.lago, plain.openmeter))
    set_up = read(
        SWITCHHOOK_STRIPE_API_KEY="rk_1",
        SWITCHHOOK_STRIPE_EVENT_NAME="minutes",
        SWITCHHOOK_LAGO_API_KEY="key",
        SWITCHHOOK_LAGO_BASE_URL="https://lago.example/",
        SWITCHHOOK_OPENMETER_BASE_URL="http://openmeter:8888",
        SWITCHHOOK_ALLOW_HTTP="1",
    )
    assert all(one.is_configured for one in (set_up.stripe, set_up.lago, set_up.openmeter))
    assert (set_up.stripe.base_url, set_up.stripe.label) == ("https://api.stripe.com", "minutes")
    assert (set_up.lago.base_url, set_up.openmeter.label) == ("https://lago.example", "switchhook.charge")


def test_a_key_for_openmeter_needs_an_address() -> None:
    """There is more than one OpenMeter."""
    with pytest.raises(SettingsError, match=r"^SWITCHHOOK_OPENMETER_BASE_URL is not set"):
        read(SWITCHHOOK_OPENMETER_API_KEY="key")


# -- secrets from files

SECRETS = [
    "DATABASE_URL",
    "REDIS_URL",
    "SWITCHHOOK_KEYS",
    "METRICS_TOKEN",
    "SWITCHHOOK_ELEVENLABS_API_KEY",
    "SWITCHHOOK_RETELL_API_KEY",
    "SWITCHHOOK_AGORA_API_KEY",
    "SWITCHHOOK_STRIPE_API_KEY",
    "SWITCHHOOK_LAGO_API_KEY",
]


def _value(settings: Settings, name: str) -> str:
    return {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "SWITCHHOOK_KEYS": settings.keys,
        "METRICS_TOKEN": settings.metrics_token,
        "SWITCHHOOK_ELEVENLABS_API_KEY": settings.elevenlabs.api_key,
        "SWITCHHOOK_RETELL_API_KEY": settings.retell.api_key,
        "SWITCHHOOK_AGORA_API_KEY": settings.agora.api_key,
        "SWITCHHOOK_STRIPE_API_KEY": settings.stripe.api_key,
        "SWITCHHOOK_LAGO_API_KEY": settings.lago.api_key,
    }[name]


def _given(name: str) -> str:
    return NEEDED.get(name, "s3cret")


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_come_from_a_file(name: str, tmp_path: Path) -> None:
    """As Docker and Kubernetes hand them over, with a line's end."""
    file = tmp_path / "secret"
    file.write_text(_given(name) + "\n")
    environ = {key: value for key, value in NEEDED.items() if key != name} | {f"{name}_FILE": str(file)}
    assert _value(Settings.from_environ(environ), name) == _value(read(**{name: _given(name)}), name)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_given_twice_is_refused(name: str, tmp_path: Path) -> None:
    """Nobody would know which one counts."""
    file = tmp_path / "secret"
    file.write_text(_given(name))
    with pytest.raises(SettingsError, match=f"^{name} and {name}_FILE are both set"):
        read(**{name: _given(name), f"{name}_FILE": str(file)})


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_secrets_file_that_cannot_be_read_is_told(name: str, content: bytes | None, tmp_path: Path) -> None:
    """By the variable's name."""
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    environ = {key: value for key, value in NEEDED.items() if key != name} | {f"{name}_FILE": str(file)}
    with pytest.raises(SettingsError, match=f"^{name}_FILE cannot be read"):
        Settings.from_environ(environ)


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    """A mount that went wrong, say."""
    file = tmp_path / "secret"
    file.touch()
    environ = {key: value for key, value in NEEDED.items() if key != "REDIS_URL"} | {"REDIS_URL_FILE": str(file)}
    with pytest.raises(SettingsError, match=r"^REDIS_URL is not set"):
        Settings.from_environ(environ)


def test_printing_settings_shows_no_secret() -> None:
    """Neither URLs, which hold passwords, nor keys."""
    settings = read(
        DATABASE_URL="postgres://u:s3cret@host/db",
        REDIS_URL="redis://:s3cret@host",
        SWITCHHOOK_KEYS="s3cret" * 8,
        METRICS_TOKEN="s3cret",
        SWITCHHOOK_RETELL_API_KEY="s3cret",
    )
    assert "s3cret" not in repr(settings) + str(settings)


# -- URLs


@pytest.mark.parametrize(
    ("given", "normalised"),
    [
        ("postgres://u:p@host:5432/db", "postgresql+psycopg://u:p@host:5432/db"),
        ("postgresql://u@host/db?sslmode=require", "postgresql+psycopg://u@host/db?sslmode=require"),
        ("postgresql+psycopg://u@host/db", "postgresql+psycopg://u@host/db"),
        ("postgres://u@/db?host=/tmp/socket&port=5432", "postgresql+psycopg://u@/db?host=/tmp/socket&port=5432"),
        ("postgres://u:p%2Fs%40w@host/db", "postgresql+psycopg://u:p%2Fs%40w@host/db"),
        ("postgres://u:p@[::1]:5432/db", "postgresql+psycopg://u:p@[::1]:5432/db"),
    ],
)
def test_a_postgres_url_names_its_driver(given: str, normalised: str) -> None:
    """Platforms say postgres://, SQLAlchemy wants more."""
    assert read(DATABASE_URL=given).database_url == normalised


@pytest.mark.parametrize(
    ("given", "url", "broker"),
    [
        ("redis://host:6379/0", "redis://host:6379/0", "redis://host:6379/0"),
        ("rediss://:p@host:6380", "rediss://:p@host:6380", "rediss://:p@host:6380"),
        ("rediss://u:p%2F@[::1]:6380/1", "rediss://u:p%2F@[::1]:6380/1", "rediss://u:p%2F@[::1]:6380/1"),
        ("unix:///tmp/r.sock?db=3", "unix:///tmp/r.sock?db=3", "redis+socket:///tmp/r.sock?virtual_host=3"),
        ("redis+socket:///tmp/r.sock?virtual_host=3", "unix:///tmp/r.sock?db=3",
         "redis+socket:///tmp/r.sock?virtual_host=3"),
        ("unix:///tmp/r.sock", "unix:///tmp/r.sock", "redis+socket:///tmp/r.sock"),
    ],
)  # fmt: skip
def test_one_redis_url_serves_both_clients(given: str, url: str, broker: str) -> None:
    """redis-py and kombu spell Unix sockets differently."""
    assert read(REDIS_URL=given).redis_url == url
    assert broker_url(url) == broker
