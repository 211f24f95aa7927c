"""An embedded Redis that loses nothing it has acknowledged: the durability that production is asked for."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from relay.demo.embedded.binaries import redis_program
from relay.demo.embedded.process import ServerProcess
from relay.demo.embedded.scratch import Scratch

# The demo's outbox: a day of a small account's calls. Redis takes memory as it needs it, up to this.
MAXMEMORY_MIB: Final = 1024


class EmbeddedRedis(ServerProcess):
    """A Redis on a Unix socket, and on a loopback TCP port if one was asked for."""

    def __init__(self, scratch: Scratch, *, name: str, tcp_port: int | None, maxmemory_mib: int) -> None:
        super().__init__(name, scratch=scratch)
        self.socket_path = self.directory / "redis.sock"
        self.tcp_port = _free_port() if tcp_port == 0 else tcp_port
        self._maxmemory_mib = maxmemory_mib
        self._executable = scratch.runnable(redis_program())

    @property
    def url(self) -> str:
        """Its first database, in redis-py's spelling: `unix:///tmp/.../redis.sock?db=0`."""
        return self.url_of(0)

    @property
    def tcp_url(self) -> str:
        """The same database over TCP. Raises ValueError if it was started without a TCP port."""
        if self.tcp_port is None:
            raise ValueError("this Redis listens on its Unix socket only")
        return f"redis://127.0.0.1:{self.tcp_port}/0"

    def url_of(self, db: int) -> str:
        """One of its 16 databases."""
        return f"unix://{self.socket_path}?db={db}"

    def _command(self) -> Sequence[str]:
        return [
            str(self._executable),
            *("--dir", str(self.directory)),
            *("--unixsocket", str(self.socket_path)),
            *("--unixsocketperm", "700"),
            *("--bind", "127.0.0.1"),
            *("--port", str(self.tcp_port or 0)),
            *("--appendonly", "yes"),
            *("--appendfsync", "always"),
            *("--save", ""),
            *("--maxmemory", f"{self._maxmemory_mib}mb"),
            *("--maxmemory-policy", "noeviction"),
        ]

    def _answers(self) -> bool:
        with redis.Redis(unix_socket_path=str(self.socket_path), socket_timeout=1, retry=Retry(NoBackoff(), 0)) as it:
            try:
                return bool(it.ping())
            except (redis.ConnectionError, redis.TimeoutError):
                return False


def start_redis(
    scratch: Scratch, *, name: str = "redis", tcp_port: int | None = None, maxmemory_mib: int = MAXMEMORY_MIB
) -> EmbeddedRedis:
    """Start a Redis in the scratch directory; it is stopped with it. `tcp_port=0` means a free one.

    Each of several needs its own `name`. Raises EmbeddedUnavailable, ServerFailed.
    """
    server = EmbeddedRedis(scratch, name=name, tcp_port=tcp_port, maxmemory_mib=maxmemory_mib)
    server.start()
    return server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
