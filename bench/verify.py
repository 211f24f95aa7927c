"""Whether every accepted event arrived exactly once with a valid signature and was charged exactly once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import text
from standardwebhooks import Webhook, WebhookVerificationError

from bench.receiver import Arrival
from bench.sender import Answer
from relay.store.database import Database

_ID: Final = re.compile(rb'"id":"(evt_[a-z2-7]+)"')
_CONVERSATION: Final = re.compile(rb'"conversation_id": "([0-9a-f]+)"')


def accepted_ids(answers: Iterable[Answer]) -> list[str]:
    """The ids of the events that were answered with 200."""
    return [
        found[1].decode()
        for answer in answers
        if answer.raw.startswith(b"HTTP/1.1 200") and (found := _ID.search(answer.raw))
    ]


def verified_arrivals(arrivals: Iterable[Arrival], secrets: Mapping[str, str]) -> dict[str, list[Arrival]]:
    """Arrivals by event, those that `standardwebhooks` verifies with the secret of the path they came to."""
    verifiers = {path: Webhook(secret) for path, secret in secrets.items()}
    found: dict[str, list[Arrival]] = {}
    for arrival in arrivals:
        head, _, body = arrival.raw.partition(b"\r\n\r\n")
        request_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        try:
            verifiers[request_line.split(" ")[1]].verify(body, headers)
        except WebhookVerificationError:
            continue
        found.setdefault(headers["webhook-id"], []).append(arrival)
    return found


def charges(database: Database) -> Counter[str]:
    """How many charges the ledger holds for each conversation."""
    with database.begin() as connection:
        rows = connection.execute(text("SELECT conversation_id, count(*) FROM ledger GROUP BY 1"))
        return Counter({str(name): int(count) for name, count in rows.all()})


def accepted_at_ms(database: Database) -> dict[str, float]:
    """When each event was accepted, Unix milliseconds."""
    with database.begin() as connection:
        rows = connection.execute(text("SELECT id, 1000 * extract(epoch FROM accepted_at) FROM events"))
        return {str(event_id): float(moment) for event_id, moment in rows.all()}


def not_exactly_once(answers: Iterable[Answer], arrived: Mapping[str, list[Arrival]], charged: Counter[str]) -> int:
    """Accepted events whose verified arrivals or charges are not one each."""
    wrong = 0
    for event_id in accepted_ids(answers):
        arrivals = arrived.get(event_id, [])
        conversation = _CONVERSATION.search(arrivals[0].raw) if arrivals else None
        if len(arrivals) != 1 or conversation is None or charged[conversation[1].decode()] != 1:
            wrong += 1
    return wrong
