"""The ids that are out in the world, as far as Redis knows: a Postgres that was restored would hand them out again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import redis

from relay.connections import answered
from relay.directory import conversations

_SESSION: Final = b"sw:config:session:"
_INDEX: Final = b"sw:config:index:"
_CONVERSATION: Final = b"sw:config:conversation:"
_BATCH: Final = 1000


class UsedIds(NamedTuple):
    """The largest id of a session that the API made, and that of a template; 0 if there is none."""

    session_id: int = 0
    template_id: int = 0

    def or_larger(self, session_id: int, template_id: int) -> UsedIds:
        """Each the larger one of two."""
        return UsedIds(max(self.session_id, session_id), max(self.template_id, template_id))


def used_ids(client: redis.Redis) -> UsedIds:
    """The largest ids that the mirror knows. Raises Unavailable.

    Its sessions are those of the last week (relay.store.sessions.AWAITED), whether or not they were called.
    """
    used = UsedIds()
    cursor = 0
    while True:
        with answered():
            reply: Any = client.scan(cursor, match="sw:config:*", count=_BATCH)
        cursor, names = reply
        for session_id, template_id in _ids(client, names):
            used = used.or_larger(session_id, template_id)
        if not cursor:
            return used


def _ids(client: redis.Redis, names: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Sessions and templates that these keys of the mirror name; 0 where one is missing."""
    indexes = [name for name in names if name.startswith(_INDEX)]
    behind = [name for name in names if name.startswith(_CONVERSATION)]
    with answered(), client.pipeline(transaction=False) as asked:
        for name in indexes:
            asked.smembers(name)
        for name in behind:
            asked.hgetall(name)
        found = asked.execute() if indexes or behind else []
    yield from ((int(name.rpartition(b":")[2]), 0) for name in names if name.startswith(_SESSION))
    for entries in found[: len(indexes)]:
        yield from ((0, int(entry.rpartition(b"/")[2])) for entry in entries if entry[:2] in (b"t ", b"a "))
    for held in found[len(indexes) :]:
        yield from conversations.ids_in(held)
