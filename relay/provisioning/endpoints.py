"""Endpoints: where customers take deliveries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from relay.delivery.headers import checked_headers
from relay.errors import BadRequest, Conflict, NotFound, Unavailable
from relay.provisioning.caps import check_endpoints
from relay.provisioning.changes import Changes
from relay.provisioning.checks import (
    MAX_OVERLAP_HOURS,
    checked_delivery,
    checked_kinds,
    checked_range,
    checked_secrets,
)
from relay.queues import RELAY
from relay.store import endpoints, server, shown, sources
from relay.store.endpoints import Endpoint
from relay.store.snapshot import EndpointState, Signing
from relay.telemetry import logs


class EndpointChanges(Changes):
    """Makes and changes endpoints."""

    def create_endpoint(
        self,
        *,
        account_id: str,
        url: str,
        filters: Sequence[str] = endpoints.EVERYTHING,
        headers: Mapping[str, str] | None = None,
        webhook_secret: str | None = None,
        signing_secret: str | None = None,
        signing: Signing = "standard",
        deadline_seconds: int = endpoints.DEADLINE_SECONDS,
        retention_hours: int | None = None,
        failure_when: str | None = None,
        operations: bool = False,
        source_id: str | None = None,
    ) -> Endpoint:
        """An endpoint: of a source if `source_id` is given, else for the whole account.

        With `operations` it hears of the account's budgets and statements, and of none of its calls. Raises Conflict
        `too_many_endpoints`.
        """
        own_headers = dict(checked_headers(headers or {}))
        checked_secrets(webhook_secret, signing_secret)
        checked_delivery(
            filters=filters,
            deadline_seconds=deadline_seconds,
            retention_hours=retention_hours,
            failure_when=failure_when,
        )
        kinds = checked_kinds(filters or endpoints.EVERYTHING, operations=operations)
        if operations and source_id is not None:
            raise _bound()
        # Last, because it asks the resolver.
        checked = self.checked_url(url, account_id=account_id, field="url")

        def change(connection: Connection) -> Endpoint:
            if source_id is not None:
                self._check_source(connection, account_id, source_id)
            check_endpoints(connection, account_id)
            row = endpoints.create(
                connection,
                self._ring,
                account_id=account_id,
                url=checked,
                filters=kinds,
                headers=own_headers,
                webhook_secret=webhook_secret,
                signing_secret=signing_secret,
                signing=signing,
                deadline_seconds=deadline_seconds,
                retention_hours=retention_hours,
                failure_when=failure_when,
                operations=operations,
                source_id=source_id,
            )
            self._audit(connection, "endpoint.created", row.id, account_id=account_id, after=shown.endpoint(row))
            return row

        return self._changing(account_id, change)

    def update_endpoint(
        self,
        *,
        account_id: str,
        endpoint_id: str,
        url: str | UnsetType = UNSET,
        filters: Sequence[str] | UnsetType = UNSET,
        headers: Mapping[str, str] | UnsetType = UNSET,
        signing: Signing | UnsetType = UNSET,
        deadline_seconds: int | UnsetType = UNSET,
        retention_hours: int | UnsetType | None = UNSET,
        failure_when: str | UnsetType | None = UNSET,
        operations: bool | UnsetType = UNSET,
    ) -> Endpoint:
        """Change what is given and leave the rest; headers and filters are replaced as a whole.

        What already waits goes to the new URL. Raises Conflict `endpoint_of_template` for another retention of a
        template's endpoint: the template's holds there, and at its provider.
        """
        own_headers = UNSET if isinstance(headers, UnsetType) else dict(checked_headers(headers))
        checked_delivery(
            filters=filters,
            deadline_seconds=deadline_seconds,
            retention_hours=retention_hours,
            failure_when=failure_when,
        )
        checked = UNSET if isinstance(url, UnsetType) else self.checked_url(url, account_id=account_id, field="url")
        wanted = filters if isinstance(filters, UnsetType) else filters or endpoints.EVERYTHING

        def change(connection: Connection) -> Endpoint:
            row = endpoints.get(connection, self._ring, account_id=account_id, endpoint_id=endpoint_id)
            if row.template_id is not None and retention_hours not in (UNSET, row.retention_hours):
                text = "how long this content is kept is its template's contentRetention; change it there"
                raise Conflict(text, code="endpoint_of_template", field="retentionHours")
            is_for_operations = row.operations if isinstance(operations, UnsetType) else operations
            if is_for_operations and (row.template_id is not None or row.source_id is not None):
                raise _bound()
            kinds = checked_kinds(
                row.filters if isinstance(wanted, UnsetType) else wanted, operations=is_for_operations
            )
            return endpoints.update(
                connection,
                self._ring,
                account_id=account_id,
                endpoint_id=endpoint_id,
                url=checked,
                headers=own_headers,
                filters=list(kinds),
                signing=signing,
                deadline_seconds=deadline_seconds,
                retention_hours=retention_hours,
                failure_when=failure_when,
                operations=operations,
            )

        return self._changing_endpoint(account_id, endpoint_id, "endpoint.updated", change)

    def rotate_endpoint(
        self, *, account_id: str, endpoint_id: str, overlap_hours: int = 24, webhook_secret: bool = False
    ) -> Endpoint:
        """A new signing secret; the one before it signs beside it for the overlap, which may be none.

        With `webhook_secret` that is replaced too, at once: a header holds one. Raises Conflict `endpoint_of_template`
        for the webhook secret of a template's endpoint, which is the template's, and `rotation_under_way` while the
        overlap of the last rotation lasts, unless there is to be none.
        """
        checked_range(overlap_hours, "overlapHours", 0, MAX_OVERLAP_HOURS)

        def change(connection: Connection) -> Endpoint:
            row = endpoints.get(connection, self._ring, account_id=account_id, endpoint_id=endpoint_id)
            if webhook_secret and row.template_id is not None:
                text = "this webhook secret is its template's; change it there"
                raise Conflict(text, code="endpoint_of_template", field="webhookSecret")
            if overlap_hours:
                _check_overlap_is_over(connection, row)
            return endpoints.rotate(
                connection,
                self._ring,
                account_id=account_id,
                endpoint_id=endpoint_id,
                keep=1 if overlap_hours else 0,
                overlap=timedelta(hours=overlap_hours),
                webhook_secret=webhook_secret,
            )

        return self._changing_endpoint(account_id, endpoint_id, "endpoint.rotated", change)

    def set_endpoint_state(self, *, account_id: str, endpoint_id: str, enabled: bool) -> Endpoint:
        """Disable an endpoint, or enable it again; what waited for a disabled one has ended as dead.

        Raises Unavailable, and has enabled nothing, when Redis is away.
        """
        state: EndpointState = "active" if enabled else "disabled"

        def change(connection: Connection) -> Endpoint:
            endpoints.set_state(connection, account_id=account_id, endpoint_id=endpoint_id, state=state)
            if enabled:
                # Before the commit as well: who dies after it must leave no gate that ends every delivery as dead.
                self._outbox.reopen(RELAY, endpoint_id)
            return endpoints.get(connection, self._ring, account_id=account_id, endpoint_id=endpoint_id)

        action = "endpoint.enabled" if enabled else "endpoint.disabled"
        row = self._changing_endpoint(account_id, endpoint_id, action, change)
        if enabled:
            self._outbox.reopen(RELAY, endpoint_id)
        return row

    def close_gone_endpoint(self, *, account_id: str, endpoint_id: str) -> None:
        """The endpoint answered 410: nothing goes there until somebody enables it. Again: nothing more happens.

        Raises NotFound, and Unavailable also where only the mirror was not told: tell it again.
        """
        with self._locked(account_id) as connection:
            before = endpoints.get(connection, self._ring, account_id=account_id, endpoint_id=endpoint_id)
            if before.state != "gone":
                endpoints.set_state(connection, account_id=account_id, endpoint_id=endpoint_id, state="gone")
                row = endpoints.get(connection, self._ring, account_id=account_id, endpoint_id=endpoint_id)
                self._audit(
                    connection,
                    "endpoint.gone",
                    endpoint_id,
                    account_id=account_id,
                    before=shown.endpoint(before),
                    after=shown.endpoint(row),
                )
        self._mirror.publish(self._database, account_id)

    def delete_endpoint(self, *, account_id: str, endpoint_id: str) -> None:
        """Take an endpoint away. What waits for it ends as dead, `endpoint_gone`; records stay.

        Raises Conflict `endpoint_of_template` for the one that a template sends to.
        """

        def change(connection: Connection) -> None:
            before = endpoints.get(connection, self._ring, account_id=account_id, endpoint_id=endpoint_id)
            endpoints.delete(connection, self._ring, account_id=account_id, endpoint_id=endpoint_id)
            self._audit(
                connection, "endpoint.deleted", endpoint_id, account_id=account_id, before=shown.endpoint(before)
            )

        self._changing(account_id, change)
        try:
            self._outbox.reopen(RELAY, endpoint_id, release=True)
        except Unavailable as error:
            # It ends when its next attempt is due instead.
            logs.warning("endpoint_not_released", endpoint_id=endpoint_id, error=error)

    def close_unused_endpoints(self, limit: int) -> int:
        """Delete endpoints that their templates gave up a while ago, once nothing waits; how many, at most `limit`.

        Safe to run in several processes at once. Raises Unavailable.
        """
        with self._database.begin() as connection:
            unused = endpoints.unused(connection, limit=limit)
        for account_id, endpoint_id in unused:
            with suppress(NotFound, Conflict):  # another process was first
                self.delete_endpoint(account_id=account_id, endpoint_id=endpoint_id)
        if unused:
            logs.info("endpoints_closed", count=len(unused))
        return len(unused)

    def _check_source(self, connection: Connection, account_id: str, source_id: str) -> None:
        try:
            sources.get(connection, self._ring, account_id=account_id, source_id=source_id)
        except NotFound:
            raise NotFound("this account has no source by this id", field="sourceId") from None

    def _changing_endpoint(
        self, account_id: str, endpoint_id: str, action: str, change: Callable[[Connection], Endpoint]
    ) -> Endpoint:
        def read(connection: Connection) -> Endpoint:
            return endpoints.get(connection, self._ring, account_id=account_id, endpoint_id=endpoint_id)

        return self._changing_one(endpoint_id, action, change, account_id=account_id, read=read, show=shown.endpoint)


def _check_overlap_is_over(connection: Connection, row: Endpoint) -> None:
    """A third secret would end the promise that the one before the newest signs until then."""
    if row.overlap_until is not None and row.overlap_until > server.now(connection):
        until = shown.moment(row.overlap_until)
        text = f"the secret before the newest signs until {until}; rotate again then, or with an overlap of 0, at once"
        raise Conflict(text, code="rotation_under_way", field="overlapHours")


def _bound() -> BadRequest:
    text = "an endpoint of a source or of a template is there for its calls; make another one for operations"
    return BadRequest(text, field="operations")
