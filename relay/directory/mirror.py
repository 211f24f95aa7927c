"""The sealed mirror of the configuration in Redis, so that ingress and relaying need no Postgres.

Postgres is the truth; each account's configuration carries a version that only grows, and the mirror takes only what
is newer. A crash between commit and mirror is made good by `publish_all`, which upkeep runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote

import msgspec
import redis

from relay.connections import answered
from relay.directory.checked import Checked, CheckScope
from relay.directory.conversations import Conversations
from relay.errors import NotFound, Unavailable
from relay.sealing import KeyRing, UnsealError
from relay.store import accounts, restored, sessions
from relay.store.database import Database
from relay.store.exports import Backlog
from relay.store.reconciliations import Compared
from relay.store.snapshot import AccountConfig
from relay.telemetry import logs

_PREFIX: Final = "sw:config:"
ACCOUNTS: Final = _PREFIX + "accounts"
VERSIONS: Final = _PREFIX + "versions"
SOURCES: Final = _PREFIX + "sources"
KEYS: Final = _PREFIX + "keys"
VERSION: Final = _PREFIX + "version"
# What stands for the template of a session that has none: no template has this id.
NO_TEMPLATE: Final = 0
# Present once every account was mirrored: from then on what is not in the mirror does not exist.
COMPLETE: Final = _PREFIX + "complete"
_DISABLED: Final = _PREFIX + "disabled"
_UNSYNCED: Final = _PREFIX + "unsynced"
_RECONCILED: Final = _PREFIX + "reconciled"
_EXPORTS: Final = _PREFIX + "exports"
_UNRATED: Final = _PREFIX + "unrated"
_COMPARED: Final = _PREFIX + "compared"
_CHECKED: Final = _PREFIX + "checked:"

_PURPOSE: Final = b"configuration"
_SCRIPT: Final = (files("relay.directory") / "mirror.lua").read_text()
_decode: Final = msgspec.json.Decoder(AccountConfig).decode
_decode_checked: Final = msgspec.json.Decoder(Checked).decode
_decode_backlogs: Final = msgspec.json.Decoder(dict[str, Backlog]).decode


def _secret_key(keyed_hash: str) -> str:
    return f"{_PREFIX}secret:{keyed_hash}"


def _agent_key(provider: str, agent_id: str) -> str:
    return f"{_PREFIX}agent:{_agent_name(provider, agent_id)}"


def _agent_name(provider: str, agent_id: str) -> str:
    return f"{provider}/{quote(agent_id, safe='')}"


def _session_key(account_id: str, session_id: int) -> str:
    return f"{_PREFIX}session:{account_id}:{session_id}"


class Mirror:
    """Writes and reads the mirror. Every method raises Unavailable when Redis does not answer.

    `conversations`: the agents of conversations, which are no part of their accounts' configuration.
    """

    def __init__(self, client: redis.Redis, ring: KeyRing) -> None:
        self._client = client
        self._ring = ring
        self._put = client.register_script(_SCRIPT)
        self.conversations = Conversations(client)

    def publish(self, database: Database, account_id: str) -> AccountConfig:
        """Mirror one account as Postgres has it now, and return it. Raises NotFound and what Database raises."""
        with database.begin() as connection:
            config = accounts.config(connection, self._ring, account_id)
        self.put(config)
        return config

    def publish_all(self, database: Database) -> int:
        """Mirror every account that Postgres has newer, and declare the mirror complete. Returns how many it mirrored.

        Raises Unavailable if the keys of the ring do not open all of them: the others are mirrored then, and nothing is
        declared, because what is missing may exist.
        """
        with database.begin() as connection:
            newest = accounts.versions(connection)
        with answered():
            names: Any = self._client.hkeys(ACCOUNTS)
        known = self.versions()
        present = {name.decode() for name in names}
        behind = [name for name, version in newest.items() if known.get(name, 0) < version or name not in present]
        published = unreadable = 0
        for account_id in behind:
            try:
                self.publish(database, account_id)
            except NotFound:
                continue
            except UnsealError as error:
                # One account that cannot be read must not keep the others out of the mirror.
                logs.alarm("account_not_mirrored", account_id=account_id, error=error)
                unreadable += 1
            else:
                published += 1
        if unreadable:
            raise Unavailable("the configuration of some accounts cannot be read")
        with answered():
            self._client.set(COMPLETE, 1)
        return published

    def overtake(self, database: Database) -> int:
        """Mirror each account of which Postgres has an older version, for it was restored; how many those are.

        Their versions in Postgres are raised past what is mirrored: until then no change of theirs would be taken.
        What only the mirror has stays there. Raises as `publish_all` does.
        """
        mirrored = self.versions()
        with database.begin() as connection:
            stored = accounts.versions(connection)
        overtaken = unreadable = 0
        for account_id, version in mirrored.items():
            if version <= stored.get(account_id, version):
                continue
            with database.begin() as connection:
                overtaken += restored.overtake(connection, account_id=account_id, version=version)
            try:
                self.publish(database, account_id)
            except UnsealError as error:
                logs.alarm("account_not_mirrored", account_id=account_id, error=error)
                unreadable += 1
        if unreadable:
            raise Unavailable("the configuration of some accounts cannot be read")
        return overtaken

    def put(self, config: AccountConfig) -> None:
        """Mirror a configuration unless a newer one is there."""
        sealed = self._ring.seal(msgspec.json.encode(config), purpose=_PURPOSE, aad=config.account_id.encode())
        entries = list(self._index(config))
        with answered():
            self._put(args=[config.account_id, config.version, sealed, len(entries), *entries])

    def get(self, account_id: str) -> AccountConfig | None:
        """An account's configuration, if it is mirrored."""
        with answered():
            sealed: Any = self._client.hget(ACCOUNTS, account_id)
        if sealed is None:
            return None
        return _decode(self._ring.open(sealed, purpose=_PURPOSE, aad=account_id.encode()))

    def version(self, account_id: str) -> int | None:
        """The version that is mirrored for an account."""
        with answered():
            version = self._client.hget(VERSIONS, account_id)
        return None if version is None else int(version)

    def versions(self) -> dict[str, int]:
        """The version that is mirrored for each account."""
        with answered():
            versions: Any = self._client.hgetall(VERSIONS)
        return {account_id.decode(): int(version) for account_id, version in versions.items()}

    def account_of_source(self, source_id: str) -> str | None:
        """The account of a source that takes webhooks, if it is mirrored."""
        with answered():
            account_id: Any = self._client.hget(SOURCES, source_id)
        return None if account_id is None else account_id.decode()

    def account_of_key(self, sha256_hex: str) -> str | None:
        """The account of an API key in force, by the key's SHA-256, if it is mirrored."""
        with answered():
            account_id: Any = self._client.hget(KEYS, sha256_hex)
        return None if account_id is None else account_id.decode()

    def templates_of(self, keyed_hash: str) -> list[tuple[str, int]]:
        """Account and id of every template whose secret has this keyed hash."""
        return self._templates(_secret_key(keyed_hash))

    def templates_of_agent(self, provider: str, agent_id: str) -> list[tuple[str, int]]:
        """Account and id of every template that claims a provider's agent."""
        return self._templates(_agent_key(provider, agent_id))

    def remember_session(
        self, account_id: str, session_id: int, template_id: int | None, *, lifetime: timedelta
    ) -> None:
        """Have a session that the API made known to the ingress for as long as its webhooks may come."""
        with answered():
            self._client.set(_session_key(account_id, session_id), template_id or NO_TEMPLATE, px=lifetime)

    def restore_session(self, database: Database, account_id: str, session_id: int) -> int | None:
        """Have a session known again that Postgres has, and return what `template_of_session` says then."""
        try:
            with database.begin() as connection:
                session = sessions.get(connection, account_id=account_id, session_id=session_id)
        except NotFound:
            return None
        self.remember_session(account_id, session_id, session.template_id, lifetime=sessions.AWAITED)
        return session.template_id or NO_TEMPLATE

    def template_of_session(self, account_id: str, session_id: int) -> int | None:
        """The template of a session that the API made for this account; NO_TEMPLATE for one that has none."""
        with answered():
            template_id: Any = self._client.get(_session_key(account_id, session_id))
        return None if template_id is None else int(template_id)

    def _templates(self, key: str) -> list[tuple[str, int]]:
        with answered():
            members: Any = self._client.smembers(key)
        pairs = sorted(member.decode().split("/") for member in members)
        return [(account_id, int(template_id)) for account_id, template_id in pairs]

    def is_complete(self) -> bool:
        """Whether what is missing here is missing in Postgres too."""
        with answered():
            return bool(self._client.exists(COMPLETE))

    def note_disabled_endpoints(self, count: int) -> None:
        """Keep the number of endpoints that take nothing, for the metrics."""
        with answered():
            self._client.set(_DISABLED, count)

    def disabled_endpoints(self) -> int:
        """The number that was noted last."""
        with answered():
            count: Any = self._client.get(_DISABLED)
        return int(count or 0)

    def note_unsynced_agents(self, counts: Mapping[str, int]) -> None:
        """Keep the numbers of voice agents that are not as their templates want them, for the metrics."""
        with answered():
            self._client.hset(_UNSYNCED, items=[part for pair in counts.items() for part in pair])

    def note_reconciliation(self, provider: str, *, missing: int, unassigned: int, difference_seconds: float) -> None:
        """Keep what the last reading of a provider's calls came to, for the metrics."""
        with answered():
            told = msgspec.json.encode((missing, unassigned, difference_seconds))
            self._client.hset(_RECONCILED, provider, told)

    def reconciliations(self) -> dict[str, tuple[int, int, float]]:
        """By provider what was noted last: calls that were missing here, those that are nobody's, and seconds."""
        with answered():
            noted: Any = self._client.hgetall(_RECONCILED)
        return {
            provider.decode(): msgspec.json.decode(told, type=tuple[int, int, float])
            for provider, told in noted.items()
        }

    def note_compared(self, days: Mapping[str, Compared]) -> None:
        """Keep what the providers' last days came to, for the metrics."""
        with answered():
            self._client.set(_COMPARED, msgspec.json.encode(days))

    def compared(self) -> dict[str, Compared]:
        """By provider what was noted last."""
        with answered():
            noted: Any = self._client.get(_COMPARED)
        return msgspec.json.decode(noted or b"{}", type=dict[str, Compared])

    def unsynced_agents(self) -> dict[str, int]:
        """The numbers that were noted last, by status."""
        with answered():
            counts: Any = self._client.hgetall(_UNSYNCED)
        return {status.decode(): int(count) for status, count in counts.items()}

    def note_unrated(self, counts: Mapping[str, int]) -> None:
        """Keep the numbers of sessions that could not be charged, for the metrics."""
        with answered():
            self._client.hset(_UNRATED, items=[part for pair in counts.items() for part in pair])

    def unrated(self) -> dict[str, int]:
        """The numbers that were noted last, by reason."""
        with answered():
            counts: Any = self._client.hgetall(_UNRATED)
        return {reason.decode(): int(count) for reason, count in counts.items()}

    def note_checked(self, scope: CheckScope, checked: Checked) -> None:
        """Keep what a check of billing's invariants found, for the metrics."""
        with answered():
            self._client.set(_CHECKED + scope, msgspec.json.encode(checked))

    def checked(self, scope: CheckScope) -> Checked | None:
        """What was noted last; None before the first check."""
        with answered():
            noted: Any = self._client.get(_CHECKED + scope)
        return None if noted is None else _decode_checked(noted)

    def note_exports(self, backlogs: Mapping[str, Backlog]) -> None:
        """Keep what waits for each billing system, for the metrics."""
        with answered():
            self._client.set(_EXPORTS, msgspec.json.encode(backlogs))

    def exports(self) -> dict[str, Backlog]:
        """What was noted last, by destination."""
        with answered():
            noted: Any = self._client.get(_EXPORTS)
        return {} if noted is None else _decode_backlogs(noted)

    def _index(self, config: AccountConfig) -> Iterator[str]:
        account = config.account_id
        for source in config.sources:
            yield f"s {source.id} {account}"
        for key_hash in config.key_hashes:
            yield f"k {key_hash} {account}"
        for template in config.templates:
            for keyed_hash in {*self._ring.lookup_hashes(template.webhook_secret), *template.former_secret_hashes}:
                yield f"t {keyed_hash} {account}/{template.id}"
            if template.agent_id:
                yield f"a {_agent_name(template.provider, template.agent_id)} {account}/{template.id}"
