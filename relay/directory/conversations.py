"""The agents of conversations in Redis: one small key each, beside their accounts' configuration and not in it.

There may be thousands a day, and each serves a single session: in the configuration every one of them would have the
whole of it written anew, and every process look whether it has changed. A key holds ids and a name of ours, and lasts
as long as its agent's events may come. Who finds none asks Postgres, unless Redis has all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final
from urllib.parse import quote

import msgspec
import redis

from relay.connections import answered
from relay.store import conversations
from relay.store.conversations import PROVIDER, ConversationTemplate, Owned
from relay.store.database import Database
from relay.store.sessions import AWAITED

_PREFIX: Final = "sw:config:conversation:"
# Present once every conversation that is awaited has its key.
_COMPLETE: Final = "sw:config:conversations"
# Redis serves nobody else while it takes one batch.
_BATCH: Final = 500

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(ConversationTemplate).decode


class Conversations:
    """Writes and reads the keys. Every method raises Unavailable when Redis does not answer."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def remember(self, account_id: str, template: ConversationTemplate, *, lifetime: timedelta) -> None:
        """Have an agent known to the ingress, or known for longer."""
        self._put([Owned(account_id, template)], lifetime)

    def of_agent(self, provider: str, agent_id: str) -> dict[str, ConversationTemplate] | None:
        """The template of each account that has this agent: of one at most, in truth. None: only Postgres knows."""
        if provider != PROVIDER:
            return {}
        with answered(), self._client.pipeline() as asked:
            asked.exists(_COMPLETE)
            asked.hgetall(_key(agent_id))
            is_complete, found = asked.execute()
        if not found and not is_complete:
            return None
        return {account_id.decode(): _decode(raw) for account_id, raw in found.items()}

    def publish(self, database: Database, agent_id: str) -> dict[str, ConversationTemplate]:
        """Give an agent its key again, and return what it holds. Raises what Database raises."""
        with database.begin() as connection:
            found = conversations.awaited(connection, agent_id=agent_id)
        self._put(found, AWAITED)
        return {one.account_id: one.template for one in found}

    def publish_all(self, database: Database) -> int:
        """Give all of them their keys, unless Redis has them; how many it gave. Raises what Database raises."""
        with answered():
            if self._client.exists(_COMPLETE):
                return 0
        with database.begin() as connection:
            found = conversations.awaited(connection)
        for first in range(0, len(found), _BATCH):
            self._put(found[first : first + _BATCH], AWAITED)
        with answered():
            self._client.set(_COMPLETE, 1)
        return len(found)

    def _put(self, owned: Sequence[Owned], lifetime: timedelta) -> None:
        with answered(), self._client.pipeline() as put:
            for account_id, template in owned:
                put.hset(_key(template.agent_id), account_id, _encode(template))
                put.pexpire(_key(template.agent_id), lifetime)
            put.execute()


def ids_in(held: Mapping[bytes, bytes]) -> Iterator[tuple[int, int]]:
    """Session and template of each conversation that one of these keys holds."""
    for template in map(_decode, held.values()):
        yield template.session_id, template.id


def _key(agent_id: str) -> str:
    return f"{_PREFIX}{PROVIDER}/{quote(agent_id, safe='')}"
