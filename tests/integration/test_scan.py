"""The positive control of the privacy tests: real servers write a canary in each of their formats, and it is found.

Each is planted so that the text itself is in none of the files that the servers made of it: a plain search would report
that all is well.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import redis
from sqlalchemy import create_engine

from relay.demo.embedded import EmbeddedPostgres, EmbeddedRedis, Scratch, start_postgres, start_redis
from tests.planted import Canary
from tests.scanner import Scanner
from tests.waiting import eventually
from tests.written import Place, file_places, monitored, open_files, postgres_places, redis_places

# What a plain search would be made in: everything that lies on a disk, of which the rest is a view.
FILES: Final = frozenset({"dump.rdb", "appendonly.aof", "tables", "write-ahead log", "Postgres' log", "planted.log"})
# Bytes of a value in one row of a TOAST table (Postgres documentation, "TOAST").
CHUNK_BYTES: Final = 1996


@dataclass(frozen=True, slots=True)
class Bench:
    """Servers of this test's own, and what it plants with."""

    redis_server: EmbeddedRedis
    postgres: EmbeddedPostgres
    redis: redis.Redis
    connection: psycopg.Connection[Any]
    temporary: Path
    postgres_log: Path

    def written(self, told: bytearray) -> Iterator[Place]:
        """The same places as in the run that is proved by them."""
        yield from redis_places(self.redis, self.redis_server)
        engine = create_engine(self.postgres.url.replace("postgresql://", "postgresql+psycopg://", 1))
        with engine.begin() as connection:
            yield from postgres_places(connection, self.postgres)
        engine.dispose()
        yield "Postgres' log", self.postgres_log.read_bytes()
        yield from file_places(self.temporary)
        yield from open_files([os.getpid()])
        self.redis.echo("heard")
        eventually(lambda: told.endswith(b'"ECHO" "heard"\r\n'), within_seconds=20, what="MONITOR")
        yield "MONITOR", bytes(told)


@pytest.fixture
def bench(scratch: Scratch, tmp_path: Path) -> Iterator[Bench]:
    """A Redis that compresses, and a Postgres that compresses its tables and its log."""
    redis_server, postgres = (
        start_redis(scratch, name="scanned"),
        start_postgres(scratch, name="scanned-pg", fsync=False),
    )
    with (
        redis.Redis.from_url(redis_server.url) as client,
        psycopg.connect(postgres.url, autocommit=True) as connection,
    ):
        connection.execute("SET wal_compression = pglz")
        yield Bench(redis_server, postgres, client, connection, tmp_path, scratch.directory / "scanned-pg.log")
    postgres.stop()
    redis_server.stop()


def halves(token: str) -> str:
    """A text in which the token is written by references to its halves, as words of a conversation are repeated."""
    first, second = token[: len(token) // 2], token[len(token) // 2 :]
    return f"{first} and {second}. " * 8 + f"{token}. " + "and so on " * 400


def words(token: str, count: int) -> str:
    """So many words of a small vocabulary, too many for a page even when compressed, with the token among them."""
    draw = random.Random(7)
    vocabulary = [f"{draw.randrange(10**6):06}" for _ in range(500)]
    said = [draw.choice(vocabulary) for _ in range(count)]
    return " ".join([*said[: count // 2], token, *said[count // 2 :]])


def plant_in_redis(bench: Bench, canary: dict[str, str]) -> None:
    """Every type of value that a server may compress or encode, in a snapshot and in what a rewrite leaves."""
    bench.redis.set("planted:string", halves(canary["a compressed string"]))
    bench.redis.rpush("planted:list", base64.b64encode(f"xy{canary['a message in base64']}".encode()))
    bench.redis.xadd("planted:stream", {"o": canary["a stream in hex"].encode().hex()})
    # So long that Redis keeps it by itself, and as dense as noise.
    packed = gzip.compress(f"{canary['a hash with gzip']} {secrets.token_hex(100)}".encode())
    bench.redis.hset("planted:hash", "field", packed)
    bench.redis.zadd("planted:zset", {json.dumps(f"👋{canary['a member in UTF-16']}").encode("utf-16-le"): 1})
    bench.redis.bgrewriteaof()
    told: Any = None

    def is_rewritten() -> bool:
        nonlocal told
        told = bench.redis.info("persistence")
        return not told["aof_rewrite_in_progress"] and not told["aof_rewrite_scheduled"]

    eventually(is_rewritten, within_seconds=20, what="BGREWRITEAOF")
    bench.redis.echo(canary["a command"].encode("utf-16-be"))


def plant_in_postgres(bench: Bench, canary: dict[str, str]) -> None:
    """Values in a row, out of line, in chunks; then a page that is written whole to the log."""
    execute = bench.connection.execute
    execute("CREATE TABLE compressed (said text)")
    execute("INSERT INTO compressed VALUES (%s)", [halves(canary["a compressed value"])])
    execute("INSERT INTO compressed VALUES (%s)", [words(canary["a value out of line"], 8000)])
    execute("CREATE TABLE cut (said text)")
    execute("ALTER TABLE cut ALTER said SET STORAGE EXTERNAL")
    execute("INSERT INTO cut VALUES (%s)", ["-" * (CHUNK_BYTES - 9) + canary["a value in chunks"] + "-" * 3000])
    execute("CREATE TABLE logged (said text)")
    execute("INSERT INTO logged SELECT 'and so on' FROM generate_series(1, 100)")  # what compression takes hold of
    execute("CHECKPOINT")
    execute("INSERT INTO logged VALUES (%s)", [canary["a whole page in the log"]])
    # The table has gone; what was written of it has not.
    execute("DROP TABLE logged")
    said = json.dumps("👋") + "".join(f"\\u{ord(character):04x}" for character in canary["a server log with escapes"])
    execute(f"DO $$ BEGIN RAISE LOG '%', $said${said}$said$; END $$")


def plant_in_files(bench: Bench, canary: dict[str, str]) -> None:
    """What processes leave: a log that quotes a quoted URL."""
    in_url = "".join(f"%{byte:02X}" for byte in canary["a log with a URL"].encode())
    (bench.temporary / "planted.log").write_text(json.dumps({"event": json.dumps({"url": f"/?q={in_url}"})}) + "\n")


# Where each canary must be found; in no file of FILES is it found by a plain search.
EXPECTED: Final = {
    "a compressed string": {"dump.rdb, LZF", "appendonly.aof, LZF", "planted:string"},
    "a message in base64": {"dump.rdb", "appendonly.aof", "planted:list"},
    "a stream in hex": {"dump.rdb", "appendonly.aof", "planted:stream"},
    "a hash with gzip": {"dump.rdb", "appendonly.aof", "planted:hash"},
    "a member in UTF-16": {"planted:zset"},
    "a command": {"MONITOR"},
    "a compressed value": {"tables, pglz", "write-ahead log, pglz", "compressed"},
    "a value out of line": {"tables, TOAST", "compressed"},
    "a value in chunks": {"tables, TOAST", "cut"},
    "a whole page in the log": {"write-ahead log, compressed pages"},
    "a server log with escapes": {"Postgres' log"},
    "a log with a URL": {"planted.log"},
    "a file without a name": {f"open file of {os.getpid()}"},
}


def test_finds_what_the_servers_have_written_in_their_own_formats(bench: Bench) -> None:
    """Compressed, out of line, in pieces, encoded, in the logs of changes: where a plain search finds nothing."""
    canary = {name: Canary().token for name in EXPECTED}
    with tempfile.TemporaryFile() as nameless, monitored(bench.redis_server) as told:
        nameless.write(canary["a file without a name"].encode())
        nameless.flush()
        plant_in_redis(bench, canary)
        plant_in_postgres(bench, canary)
        plant_in_files(bench, canary)
        places = list(bench.written(told))

    found = Scanner(canary.values()).found_in_all(places)

    missed = {
        name: sorted(at - {place for place, token in found if token == canary[name]}) for name, at in EXPECTED.items()
    }
    assert {name: at for name, at in missed.items() if at} == {}
    plain = {
        name for name, token in canary.items() for place, data in places if place in FILES and token.encode() in data
    }
    assert plain == set(), "the text itself is there: this control proves less than it says"
