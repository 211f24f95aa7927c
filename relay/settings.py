"""Every setting, read from the environment in this module and nowhere else.

Secrets may come from a file instead: NAME_FILE names it. Nonsense fails at start with the variable's name.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal, TypeVar
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from relay.errors import SettingsError

MIB: Final = 1024 * 1024

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAccess:
    """Where a provider's management API is and what opens it. An empty key means: not configured."""

    base_url: str
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportAccess:
    """Where a billing system is that rows of the ledger are sent to, what opens it, and what it calls our events.

    It is used if `is_configured`: with a key, or, where that needs none, with an address.
    """

    base_url: str = ""
    api_key: str = field(default="", repr=False)
    label: str = ""
    needs_key: bool = True

    @property
    def is_configured(self) -> bool:
        """Whether anything can be sent there."""
        return bool(self.base_url and (self.api_key or not self.needs_key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Switchhook's settings; see the table in README.md for what each does."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    keys: str = field(repr=False)
    redis_tls_verify: Literal["required", "none"] = "required"
    host: str = "0.0.0.0"  # noqa: S104  a web process of a Procfile is reached from outside
    port: int = 8000
    public_url: str = "http://localhost:8000"
    web_concurrency: int = 1
    blocking_threads: int = 256
    allow_http: bool = False
    egress_allow: tuple[Network, ...] = ()
    max_body_bytes: int = 10 * MIB
    max_recording_bytes: int = 100 * MIB
    retention: timedelta = timedelta(hours=96)
    recharge: timedelta = timedelta(hours=72)
    account_quota_bytes: int = 512 * MIB
    ca_file: str | None = None
    metrics_token: str = field(default="", repr=False)
    operator_key: str = field(default="", repr=False)
    requests_per_minute: int = 600
    metrics_port: int = 0
    dyno: str = ""
    log_level: str = "INFO"
    elevenlabs: ProviderAccess = ProviderAccess(base_url="https://api.elevenlabs.io")
    retell: ProviderAccess = ProviderAccess(base_url="https://api.retellai.com")
    agora: ProviderAccess = ProviderAccess(base_url="https://api.agora.io")
    stripe: ExportAccess = ExportAccess(base_url="https://api.stripe.com", label="call_seconds")
    lago: ExportAccess = ExportAccess(base_url="https://api.getlago.com", label="call_seconds")
    openmeter: ExportAccess = ExportAccess(label="switchhook.charge", needs_key=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read and check every setting. Raises SettingsError naming the variable."""
        env = _Environment(os.environ if environ is None else environ)
        missing = [name for name in _ADVICE if not env.secret(name)]
        if missing:
            raise SettingsError("; ".join(f"{name} is not set: {_ADVICE[name]}" for name in missing))
        return cls(
            database_url=_database_url(env.secret("DATABASE_URL")),
            redis_url=_redis_url(env.secret("REDIS_URL")),
            keys=env.secret("SWITCHHOOK_KEYS"),
            redis_tls_verify=env.choice("REDIS_TLS_VERIFY", "required", ("required", "none")),  # type: ignore[arg-type]
            host=env.text("HOST", "0.0.0.0"),  # noqa: S104
            port=env.integer("PORT", 8000, 1, 65535),
            public_url=env.url("SWITCHHOOK_PUBLIC_URL", f"http://localhost:{env.integer('PORT', 8000, 1, 65535)}"),
            web_concurrency=env.integer("WEB_CONCURRENCY", 1, 1, 256),
            blocking_threads=env.integer("SWITCHHOOK_BLOCKING_THREADS", 256, 1, 4096),
            allow_http=env.flag("SWITCHHOOK_ALLOW_HTTP"),
            egress_allow=env.parsed("SWITCHHOOK_EGRESS_ALLOW", (), _networks),
            max_body_bytes=env.integer("SWITCHHOOK_MAX_BODY", 10 * MIB, 1024, 1024 * MIB),
            max_recording_bytes=env.integer("SWITCHHOOK_MAX_RECORDING", 100 * MIB, MIB, 4096 * MIB),
            retention=env.retention(),
            recharge=env.recharge(),
            account_quota_bytes=env.account_quota_bytes(),
            ca_file=env.parsed("SWITCHHOOK_CA_FILE", None, _existing_file),
            metrics_token=env.secret("METRICS_TOKEN"),
            operator_key=env.operator_key(),
            requests_per_minute=env.integer("SWITCHHOOK_REQUESTS_PER_MINUTE", 600, 1, 1_000_000),
            metrics_port=env.integer("SWITCHHOOK_METRICS_PORT", 0, 0, 65535),
            dyno=env.text("DYNO", ""),
            log_level=env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR")),
            elevenlabs=env.provider("ELEVENLABS", "https://api.elevenlabs.io"),
            retell=env.provider("RETELL", "https://api.retellai.com"),
            agora=env.provider("AGORA", "https://api.agora.io"),
            stripe=env.export("STRIPE", "https://api.stripe.com", label=("EVENT_NAME", "call_seconds")),
            lago=env.export("LAGO", "https://api.getlago.com", label=("CODE", "call_seconds")),
            openmeter=env.export("OPENMETER", "", label=("EVENT_TYPE", "switchhook.charge"), needs_key=False),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The settings that say how much may wait and for how long; they can be read before any server is there."""

    account_quota_bytes: int
    retention: timedelta
    recharge: timedelta

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Limits:
        """Read and check these alone. Raises SettingsError naming the variable."""
        env = _Environment(os.environ if environ is None else environ)
        return cls(account_quota_bytes=env.account_quota_bytes(), retention=env.retention(), recharge=env.recharge())


def proxy_variables(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The names of those variables that would make other programs use a proxy, as they are set. We use none."""
    env = os.environ if environ is None else environ
    return tuple(sorted(name for name, value in env.items() if value and name.lower() in _PROXIES))


_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy"})

_ADVICE: Final = {
    "DATABASE_URL": "give the Postgres URL, for example postgres://user@host/switchhook",
    "REDIS_URL": "give the Redis URL, for example redis://host:6379/0",
    "SWITCHHOOK_KEYS": "give the sealing keys as id:base64,... or one random string of 32 or more characters",
}


class _Environment:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str, default: str) -> str:
        return self._environ.get(name, "").strip() or default

    def secret(self, name: str) -> str:
        """NAME, or the content of the file that NAME_FILE names."""
        direct, path = self.text(name, ""), self.text(f"{name}_FILE", "")
        if direct and path:
            raise SettingsError(f"{name} and {name}_FILE are both set; keep one")
        if not path:
            return direct
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{name}_FILE cannot be read: {type(error).__name__}") from error

    def integer(self, name: str, default: int, lowest: int, highest: int) -> int:
        raw = self.text(name, str(default))
        # int() refuses thousands of digits with an error of its own.
        if not (raw.isascii() and raw.isdigit() and len(raw) < 20 and lowest <= int(raw) <= highest):
            raise SettingsError(f"{name} must be a whole number from {lowest} to {highest}")
        return int(raw)

    def retention(self) -> timedelta:
        return timedelta(hours=self.integer("SWITCHHOOK_RETENTION_HOURS", 96, 2, 24 * 30))

    def recharge(self) -> timedelta:
        return timedelta(hours=self.integer("SWITCHHOOK_RECHARGE_HOURS", 72, 0, 24 * 30))

    def account_quota_bytes(self) -> int:
        return self.integer("SWITCHHOOK_ACCOUNT_QUOTA", 512 * MIB, 1024, 1024**5)

    def operator_key(self) -> str:
        key = self.secret("SWITCHHOOK_OPERATOR_KEY")
        if key and len(key) < 32:
            raise SettingsError("SWITCHHOOK_OPERATOR_KEY must have 32 or more characters")
        return key

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        raw = self.text(name, default)
        if raw not in choices:
            raise SettingsError(f"{name} must be one of {', '.join(choices)}")
        return raw

    def flag(self, name: str) -> bool:
        return self.choice(name, "0", ("0", "1")) == "1"

    def parsed(self, name: str, default: T, parse: Callable[[str], T]) -> T:
        raw = self.text(name, "")
        if not raw:
            return default
        try:
            return parse(raw)
        except ValueError as error:
            raise SettingsError(f"{name} makes no sense: {error}") from error

    def url(self, name: str, default: str) -> str:
        raw = self.text(name, default).rstrip("/")
        if not (raw.startswith(("http://", "https://")) and _has_host(raw)):
            raise SettingsError(f"{name} must begin with http:// or https:// and name a host")
        return raw

    def provider(self, name: str, base_url: str) -> ProviderAccess:
        url = self.url(f"SWITCHHOOK_{name}_BASE_URL", base_url)
        return ProviderAccess(base_url=url, api_key=self.secret(f"SWITCHHOOK_{name}_API_KEY"))

    def export(self, name: str, base_url: str, *, label: tuple[str, str], needs_key: bool = True) -> ExportAccess:
        at = f"SWITCHHOOK_{name}_BASE_URL"
        url = self.url(at, base_url) if self.text(at, base_url) else ""
        if url and not (url.startswith("https://") or self.flag("SWITCHHOOK_ALLOW_HTTP")):
            raise SettingsError(f"{at} must begin with https://, unless SWITCHHOOK_ALLOW_HTTP is 1")
        key = self.secret(f"SWITCHHOOK_{name}_API_KEY")
        if key and not url:
            raise SettingsError(f"{at} is not set: give the address that SWITCHHOOK_{name}_API_KEY is for")
        told = self.text(f"SWITCHHOOK_{name}_{label[0]}", label[1])
        if len(told) > 100 or not told.isprintable():  # Stripe's limit of an event's name
            raise SettingsError(f"SWITCHHOOK_{name}_{label[0]} must have at most 100 printable characters")
        return ExportAccess(base_url=url, api_key=key, label=told, needs_key=needs_key)


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _networks(raw: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(part.strip()) for part in raw.split(",") if part.strip())


def _existing_file(raw: str) -> str | None:
    if not Path(raw).is_file():
        raise ValueError("there is no such file")
    return raw


def _database_url(raw: str) -> str:
    """Platforms say `postgres://`, SQLAlchemy wants the driver named; normalised once, here."""
    scheme, separator, rest = raw.partition("://")
    if not separator or scheme not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise SettingsError("DATABASE_URL must begin with postgres:// or postgresql://")
    url = f"postgresql+psycopg://{rest}"
    _check_port("DATABASE_URL", lambda: make_url(url).port)
    return url


def _redis_url(raw: str) -> str:
    if not raw.startswith(("redis://", "rediss://", "unix://", "redis+socket://")):
        raise SettingsError("REDIS_URL must begin with redis://, rediss:// or unix://")
    _check_port("REDIS_URL", lambda: urlsplit(raw).port)
    if raw.startswith("redis+socket://"):
        return raw.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=", 1)
    return raw


def _check_port(name: str, parsed: Callable[[], int | None]) -> None:
    """Find out now what the client would say later, quoting a part of the password."""
    try:
        is_good = (parsed() or 1) in range(1, 65536)
    except (ValueError, ArgumentError):
        is_good = False
    if not is_good:
        raise SettingsError(f"{name} has no valid port; percent-encode what is special in its password")


def broker_url(redis_url: str) -> str:
    """The same Redis in kombu's spelling, which names Unix sockets differently."""
    if not redis_url.startswith("unix://"):
        return redis_url
    return redis_url.replace("unix://", "redis+socket://", 1).replace("db=", "virtual_host=", 1)
