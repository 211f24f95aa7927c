"""Sources: where a provider's webhooks come in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from relay.errors import BadRequest, Conflict
from relay.providers import PROVIDERS
from relay.provisioning.caps import check_endpoints, check_sources
from relay.provisioning.changes import Changes
from relay.provisioning.checks import MAX_NAME_CHARS, checked_source_secrets, checked_text
from relay.store import endpoints, shown, sources
from relay.store.endpoints import Endpoint
from relay.store.sources import Source


class SourceChanges(Changes):
    """Makes and changes sources."""

    def create_source(
        self,
        *,
        account_id: str,
        provider: str,
        secrets: Sequence[str],
        relay_url: str | None = None,
        name: str | None = None,
        shared: bool = False,
    ) -> tuple[Source, Endpoint | None]:
        """A source, with an endpoint of its own if `relay_url` is given.

        What comes in at a `shared` one belongs to the accounts that its events' labels name. Whoever has its secret can
        write for all of them: it is for operators, in an account of their own.
        """
        if provider not in PROVIDERS:
            raise BadRequest(f"provider must be one of {', '.join(sorted(PROVIDERS))}", field="provider")
        checked_source_secrets(secrets)
        _check_name(name)
        url = None if relay_url is None else self.checked_url(relay_url, account_id=account_id, field="relayUrl")

        def change(connection: Connection) -> tuple[Source, Endpoint | None]:
            check_sources(connection, account_id)
            source = sources.create(
                connection,
                self._ring,
                account_id=account_id,
                provider=provider,
                secrets=secrets,
                name=name,
                shared=shared,
            )
            self._audit(connection, "source.created", source.id, account_id=account_id, after=self._source(source))
            if url is None:
                return source, None
            check_endpoints(connection, account_id)
            endpoint = endpoints.create(connection, self._ring, account_id=account_id, url=url, source_id=source.id)
            after = shown.endpoint(endpoint)
            self._audit(connection, "endpoint.created", endpoint.id, account_id=account_id, after=after)
            return source, endpoint

        return self._changing(account_id, change)

    def update_source(
        self,
        *,
        account_id: str,
        source_id: str,
        name: str | UnsetType | None = UNSET,
        enabled: bool | UnsetType = UNSET,
    ) -> Source:
        """Change what is given. A source that is not enabled answers 404, and its provider gives up some day.

        Raises Conflict `source_managed` for `enabled` of one that we look after.
        """
        _check_name(name)

        def change(connection: Connection) -> Source:
            source = sources.rename(connection, self._ring, account_id=account_id, source_id=source_id, name=name)
            if isinstance(enabled, UnsetType):
                return source
            switch = sources.enable if enabled else sources.disable
            return switch(connection, self._ring, account_id=account_id, source_id=source_id)

        is_named_only = isinstance(enabled, UnsetType)
        return self._changing_source(account_id, source_id, "source.updated", change, of_managed=is_named_only)

    def set_source_secrets(self, *, account_id: str, source_id: str, secrets: Sequence[str]) -> Source:
        """Replace the secrets of a source; while the provider rotates its own, give the old one too.

        Raises Conflict `source_managed` for one that we look after.
        """
        checked_source_secrets(secrets)
        return self._changing_source(
            account_id,
            source_id,
            "source.rotated",
            lambda connection: sources.set_secrets(
                connection, self._ring, account_id=account_id, source_id=source_id, secrets=secrets
            ),
        )

    def delete_source(self, *, account_id: str, source_id: str) -> None:
        """Take a source away: its URL takes no webhook any more. Its own endpoints stay.

        Raises Conflict `source_managed` for one that we look after.
        """

        def change(connection: Connection) -> None:
            before = sources.get(connection, self._ring, account_id=account_id, source_id=source_id)
            _check_not_managed(before)
            sources.delete(connection, self._ring, account_id=account_id, source_id=source_id)
            self._audit(connection, "source.deleted", source_id, account_id=account_id, before=self._source(before))

        self._changing(account_id, change)

    def source_url(self, source: Source) -> str:
        """Where a provider has to send its webhooks."""
        return f"{self._settings.public_url}/api/v1/webhooks/{source.provider}/{source.id}"

    def _changing_source(
        self,
        account_id: str,
        source_id: str,
        action: str,
        change: Callable[[Connection], Source],
        *,
        of_managed: bool = False,
    ) -> Source:
        def read(connection: Connection) -> Source:
            source = sources.get(connection, self._ring, account_id=account_id, source_id=source_id)
            if not of_managed:
                _check_not_managed(source)
            return source

        return self._changing_one(source_id, action, change, account_id=account_id, read=read, show=self._source)

    def _source(self, source: Source) -> shown.Shown:
        return shown.source(source, url=self.source_url(source))


def _check_not_managed(source: Source) -> None:
    """Calls are charged by what comes in at such a source: who is charged may not silence it, nor sign for it."""
    if source.managed:
        raise Conflict(
            "Switchhook made this source for a webhook that it looks after: only its name can be changed",
            code="source_managed",
        )


def _check_name(name: str | UnsetType | None) -> None:
    if isinstance(name, str):
        checked_text(name, "name", MAX_NAME_CHARS)
