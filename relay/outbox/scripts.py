"""Runs the outbox's Lua scripts: by digest, loaded again when Redis has forgotten them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

import redis
from redis.exceptions import NoScriptError

from relay.connections import answered
from relay.errors import Unavailable

Arg = bytes | str | int
Call = tuple[str, Sequence[Arg]]

_FOLDER: Final = files("relay.outbox")
_PRELUDE: Final = (_FOLDER / "prelude.lua").read_bytes()
# Every script beside this module.
_SOURCES: Final = {
    entry.name.removesuffix(".lua"): _PRELUDE + b"\n" + entry.read_bytes()
    for entry in _FOLDER.iterdir()
    if entry.name.endswith(".lua") and entry.name != "prelude.lua"
}
_DIGESTS: Final = {name: hashlib.sha1(source, usedforsecurity=False).hexdigest() for name, source in _SOURCES.items()}


class Scripts:
    """Calls scripts by name on one client. Every failure of Redis becomes Unavailable, without its text."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def run(self, name: str, *args: Arg) -> Any:
        """Run one script and return its reply."""
        return self.run_all([(name, args)])[0]

    def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one round trip, in order. A script that Redis has forgotten is loaded and run again."""
        with answered():
            replies = self._send(calls)
            missing = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if missing:
                for place in missing:
                    self._client.script_load(_SOURCES[calls[place][0]].decode())
                for place, reply in zip(missing, self._send([calls[place] for place in missing]), strict=True):
                    replies[place] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise Unavailable(f"Redis refused a script: {type(reply).__name__}") from None
        return replies

    def _send(self, calls: Sequence[Call]) -> list[Any]:
        if len(calls) == 1:
            name, args = calls[0]
            try:
                return [self._client.evalsha(_DIGESTS[name], 0, *args)]
            except redis.ResponseError as error:
                return [error]
        pipeline = self._client.pipeline(transaction=False)
        for name, args in calls:
            pipeline.evalsha(_DIGESTS[name], 0, *args)
        return pipeline.execute(raise_on_error=False)
