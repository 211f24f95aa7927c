"""Clients for Redis and Postgres. One setting decides how TLS is verified, for every client."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import Engine, create_engine

from relay.errors import SettingsError, Unavailable
from relay.settings import Settings

# Within these the ingress must know whether Redis answered: a provider waits at most 10 s, a waiter 2 s in all.
REDIS_SECONDS: Final = 2.0

# A Postgres that has vanished must not hold a thread for the hours that TCP would wait, nor one lock all others.
_POSTGRES_OPTIONS: Final = {
    "connect_timeout": 5,
    "application_name": "switchhook",
    "options": "-c timezone=UTC -c statement_timeout=60000 -c lock_timeout=10000",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def redis_client(
    settings: Settings, *, timeout_seconds: float = REDIS_SECONDS, max_connections: int = 64
) -> redis.Redis:
    """A binary-safe client without hidden retries: redis-py's defaults turn a 2 s timeout into 25 s.

    Raises SettingsError, without the URL, for options in REDIS_URL that redis-py does not know or cannot read.
    """
    options: dict[str, Any] = {
        "decode_responses": False,
        "socket_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": max_connections,
        "health_check_interval": 0,
        "protocol": 2,
    }
    if not settings.redis_url.startswith("unix://"):
        options |= {"socket_connect_timeout": timeout_seconds, "socket_keepalive": True}
    if settings.redis_url.startswith("rediss://"):
        options["ssl_cert_reqs"] = settings.redis_tls_verify
        options["ssl_check_hostname"] = settings.redis_tls_verify == "required"
    try:
        client = redis.Redis.from_url(settings.redis_url, **options)
        # The pool would make its first connection, and find out, at the first command. This one never connects.
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (AttributeError, TypeError, ValueError, redis.RedisError):
        client = None
    if client is None:
        raise SettingsError("REDIS_URL has an option that redis-py does not know, or with a value that it cannot read")
    return client


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """Turn every failure of Redis into Unavailable, without its text."""
    try:
        yield
    except redis.RedisError as error:
        raise Unavailable(f"Redis did not answer: {type(error).__name__}") from None


def postgres_engine(settings: Settings, *, pool_size: int = 4, wait_seconds: float = 30.0) -> Engine:
    """An engine that never logs SQL and never shows parameters in errors: both may hold a customer's data.

    `wait_seconds` is how long to wait for one of its connections while all are in use.
    """
    return create_engine(
        settings.database_url,
        pool_size=pool_size,
        max_overflow=4,
        pool_timeout=wait_seconds,
        pool_pre_ping=True,
        pool_recycle=1800,
        hide_parameters=True,
        connect_args=_POSTGRES_OPTIONS,
    )
