"""What accounts are called at the billing systems that their charges are sent to. Only operators say so."""

from __future__ import annotations

from datetime import datetime

from billing import periods
from relay.calls import MAX_FACT_CHARS
from relay.errors import NotFound
from relay.provisioning.changes import Changes
from relay.provisioning.checks import checked_text
from relay.store import exports, shown
from relay.store.exports import DESTINATIONS, Customer, Dead


class ExportChanges(Changes):
    """Names accounts at destinations, and puts rows of the ledger into the queue for them."""

    def put_export(self, *, account_id: str, destination: str, customer: str) -> Customer:
        """Send the account's charges to a destination from now on, as `customer`; again: under the new name.

        `customer` is a customer of Stripe's (`cus_...`), the external id of a subscription in Lago, a subject in
        OpenMeter. Raises NotFound, and BadRequest naming the field.
        """
        checked_destination(destination)
        checked_text(customer, "customer", MAX_FACT_CHARS)
        with self._locked(account_id) as connection:
            # Nobody posts meanwhile: each row is queued either by whoever posts it, or by a backfill.
            periods.alone(connection, account_id)
            before = exports.find_customer(connection, account_id=account_id, destination=destination)
            row = exports.put_customer(connection, account_id=account_id, destination=destination, customer=customer)
            self._audit(
                connection,
                "export.set",
                destination,
                account_id=account_id,
                before=None if before is None else shown.export(before),
                after=shown.export(row),
            )
        return row

    def remove_export(self, *, account_id: str, destination: str) -> int:
        """Send nothing more of the account there. Returns how many rows were still waiting. Raises NotFound."""
        checked_destination(destination)
        with self._locked(account_id) as connection:
            periods.alone(connection, account_id)
            before = exports.get_customer(connection, account_id=account_id, destination=destination)
            left = exports.remove_customer(connection, account_id=account_id, destination=destination)
            self._audit(connection, "export.removed", destination, account_id=account_id, before=shown.export(before))
        return left

    def backfill_export(self, *, account_id: str, destination: str, since: datetime) -> int:
        """Queue what was charged since a moment and before the account had its name there; how many rows.

        Each row is queued once, however often this is done. Raises NotFound.
        """
        checked_destination(destination)
        with self._locked(account_id) as connection:
            periods.alone(connection, account_id)
            row = exports.get_customer(connection, account_id=account_id, destination=destination)
            queued = exports.backfill(connection, row, since=since)
            if queued:
                self._audit(connection, "export.backfilled", destination, account_id=account_id)
        return queued

    def retry_exports(
        self, *, account_id: str | None = None, destination: str | None = None, code: str | None = None
    ) -> list[Dead]:
        """Have what nobody tries any more tried again; what may be there already (`unknown_outcome`) only by name."""
        with self._database.begin() as connection:
            changed = exports.take_up(connection, account_id=account_id, destination=destination, code=code)
            for one in changed:
                self._audit(connection, "export.retried", one.destination, account_id=one.account_id)
        return changed

    def drop_exports(
        self, *, account_id: str | None = None, destination: str | None = None, code: str | None = None
    ) -> list[Dead]:
        """Forget what nobody tries any more: it is there already, or is not to be."""
        with self._database.begin() as connection:
            changed = exports.give_up(connection, account_id=account_id, destination=destination, code=code)
            for one in changed:
                self._audit(connection, "export.dropped", one.destination, account_id=one.account_id)
        return changed


def checked_destination(destination: str) -> None:
    """Raises NotFound for what is none."""
    if destination not in DESTINATIONS:
        raise NotFound(f"charges are sent to {', '.join(DESTINATIONS)}")
