"""What proves that nothing was lost: the records in Postgres, the metrics of web, and what Redis still holds."""

from __future__ import annotations

from collections.abc import Iterable

import redis
from prometheus_client.parser import text_string_to_metric_families

from relay.demo.client import Client
from relay.outbox import keys
from relay.store import charges, deliveries
from relay.store.charges import Charge
from relay.store.database import Database


class Evidence:
    """Reads, for one account, what the processes wrote. Polling it is cheap."""

    def __init__(self, web: Client, database: Database, outbox: redis.Redis, *, account_id: str) -> None:
        self._web = web
        self._database = database
        self._outbox = outbox
        self._account_id = account_id

    def charges_of(self, conversation_id: str) -> list[Charge]:
        """The ledger's rows of a conversation, oldest first."""
        return [charge for charge in reversed(self._charges()) if charge.conversation_id == conversation_id]

    def charged(self) -> int:
        """Charges less reversals: what the account pays for."""
        signs = {"charge": 1, "reversal": -1}
        return sum(signs.get(charge.kind, 0) for charge in self._charges())

    def dead(self) -> int:
        """Deliveries that were given up."""
        with self._database.begin() as connection:
            return len(deliveries.page(connection, account_id=self._account_id, status="dead"))

    def held(self, event_ids: Iterable[str]) -> int:
        """Of these events, those whose sealed content is still in Redis."""
        names = [keys.sealed(event_id) for event_id in event_ids]
        return int(self._outbox.exists(*names)) if names else 0

    def unaccounted(self) -> int | None:
        """The metric that must be 0; None when web does not tell."""
        return _whole(self._metrics().get("switchhook_unaccounted_events"))

    def is_drained(self) -> bool:
        """Whether nothing waits in either lane: then all that was to be delivered and charged has been."""
        return self._metrics().get("switchhook_relay_outbox_waiting") == 0

    def _charges(self) -> list[Charge]:
        with self._database.begin() as connection:
            return charges.page(connection, account_id=self._account_id)

    def _metrics(self) -> dict[str, float]:
        """Every gauge, summed over its labels."""
        text = self._web.get("/metrics")
        if text is None:
            return {}
        families = text_string_to_metric_families(text)
        return {f.name: sum(sample.value for sample in f.samples) for f in families if f.type == "gauge"}


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
