"""Everything that Switchhook and its servers have written somewhere: places to scan, by a name and their bytes."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil
import redis
from sqlalchemy import Connection, inspect, text

from relay.demo.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.carving import postgres_pages, postgres_wal
from tests.carving.postgres_pages import PAGE_BYTES
from tests.carving.redis_files import compressed_strings
from tests.waiting import eventually

Place = tuple[str, bytes]

_SAVE_SECONDS: Final = 10.0
_TABLES: Final = re.compile(r"base/|global/\d")
_LOG: Final = "pg_wal/"
# The first of a page: where in the log it was changed last, and its checksum.
_OWN_BYTES: Final = 10


def redis_places(client: redis.Redis, server: EmbeddedRedis) -> Iterator[Place]:
    """All keys, and all files after a snapshot was taken: as they are, and their compressed strings."""
    yield from redis_contents(client)
    client.bgsave()
    eventually(lambda: not _persistence(client)["rdb_bgsave_in_progress"], within_seconds=_SAVE_SECONDS, what="BGSAVE")
    assert _persistence(client)["rdb_last_bgsave_status"] == "ok"
    for path in _files(server.directory):
        data = path.read_bytes()
        yield path.name, data
        yield f"{path.name}, LZF", b"\n".join(compressed_strings(data))


def redis_contents(client: redis.Redis) -> Iterator[Place]:
    """Every key of a Redis database with all that it holds, whatever its type; the name is part of it."""
    read: dict[bytes, Any] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": client.xrange,
    }
    for key in client.scan_iter():
        kind: Any = client.type(key)
        if kind != b"none":  # it expired meanwhile
            yield key.decode("utf-8", "replace"), key + b"\n" + b"\n".join(_leaves(read[kind](key)))


def postgres_places(connection: Connection, server: EmbeddedPostgres) -> Iterator[Place]:
    """All rows, and all files after a checkpoint: tables and indexes, what is compressed or out of line, the log."""
    yield from postgres_contents(connection)
    connection.execute(text("CHECKPOINT"))
    data = server.directory / "data"
    pages: dict[bytes, bytes] = {}
    log: list[bytes] = []
    for path in _files(data):
        name = str(path.relative_to(data))
        with suppress(FileNotFoundError):  # a table that was dropped meanwhile
            content = path.read_bytes()
            if name.startswith(_LOG):
                log.append(content)
            elif _TABLES.match(name) and len(content) % PAGE_BYTES == 0:
                pages |= _pages(content)
            else:
                yield name, content
    yield from _page_places("tables", pages.values())
    yield from _log_places(b"".join(log))


def postgres_contents(connection: Connection) -> Iterator[Place]:
    """Every row of every table as text; bytes show as hex."""
    for table in inspect(connection).get_table_names():
        rows: Sequence[str] = connection.execute(text(f'SELECT t::text FROM "{table}" t')).scalars().all()
        yield table, "\n".join(rows).encode()


def file_places(*directories: Path) -> Iterator[Place]:
    """Every file in these directories and below."""
    for directory in directories:
        for path in _files(directory):
            with suppress(FileNotFoundError):  # it was temporary
                yield path.name, path.read_bytes()


def open_files(pids: Iterable[int]) -> Iterator[Place]:
    """The files that processes and their children hold open, also those that have no name any more."""
    for pid in pids:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            descriptors: list[Path] = []
            with suppress(OSError):  # the process has ended meanwhile
                descriptors = list(Path(f"/proc/{process.pid}/fd").iterdir())
            for descriptor in descriptors:
                with suppress(OSError):  # the file was closed meanwhile
                    target = str(descriptor.readlink())
                    if "(deleted)" in target or target.startswith("/memfd:"):
                        yield f"open file of {process.pid}", descriptor.read_bytes()


@contextmanager
def monitored(server: EmbeddedRedis) -> Iterator[bytearray]:
    """All commands that Redis is given while the block runs, as MONITOR tells them: also those that leave nothing."""
    told = bytearray()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.socket_path))
        connection.sendall(b"MONITOR\r\n")
        told += connection.recv(64)
        assert told.startswith(b"+OK")

        def listen() -> None:
            while piece := connection.recv(1 << 16):
                told.extend(piece)

        thread = threading.Thread(target=listen, name="monitor")
        thread.start()
        try:
            yield told
        finally:
            connection.shutdown(socket.SHUT_RDWR)
            thread.join()


def _pages(content: bytes) -> dict[bytes, bytes]:
    """The pages of a file, each once, by all but what every copy of it has of its own: its place in the log."""
    pages = (content[at : at + PAGE_BYTES] for at in range(0, len(content), PAGE_BYTES))
    return {page[_OWN_BYTES:]: page for page in pages}


def _page_places(name: str, pages: Iterable[bytes]) -> Iterator[Place]:
    inline: list[bytes] = []
    chunks: list[postgres_pages.Chunk] = []
    for page in pages:
        yield name, page
        inline += postgres_pages.inline_values(page)
        chunks += filter(None, map(postgres_pages.chunk, postgres_pages.rows(page)))
    yield f"{name}, pglz", b"\n".join(inline)
    yield f"{name}, TOAST", b"\n".join(postgres_pages.joined(chunks))


def _log_places(log: bytes) -> Iterator[Place]:
    stream, _ = postgres_wal.stitched(log)
    yield "write-ahead log", stream
    yield "write-ahead log, pglz", b"\n".join(postgres_pages.inline_values(stream))
    images = {image for record in postgres_wal.records(log) for image in postgres_wal.images(record)}
    pages = {page[_OWN_BYTES:]: page for image in images if image.is_pglz and (page := image.page()) is not None}
    yield from _page_places("write-ahead log, compressed pages", pages.values())


def _persistence(client: redis.Redis) -> dict[str, Any]:
    told: Any = client.info("persistence")
    return dict(told)


def _files(directory: Path) -> list[Path]:
    """Sorted, so that the segments of a log follow each other."""
    return sorted(path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


def _leaves(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _leaves(pair)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _leaves(item)
