"""Sources, templates and endpoints as the hot path sees them: from the sealed mirror in Redis, cached per process.

Every reply of the outbox names the configuration's version; when it moves, cached accounts are checked again on their
next use: by one look at the account's own version, for which nobody else waits. Whether an accept used an account's
newest version is decided by the accept script itself.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from relay.calls import DERIVED_SESSION_BASE
from relay.directory.gate import Gate
from relay.directory.mirror import Mirror
from relay.directory.view import AccountView
from relay.errors import NotFound
from relay.sealing import KeyRing
from relay.store import agora_agents
from relay.store.accounts import key_hash
from relay.store.conversations import ConversationTemplate
from relay.store.database import Database
from relay.store.snapshot import SourceConfig, TemplateConfig

__all__ = ["AccountView", "Directory", "Mirror"]

K = TypeVar("K")
V = TypeVar("V")

# Enough for every busy account of one process; past it the cache starts anew rather than grow.
_MAX_CACHED: Final = 20_000


@dataclass(slots=True)
class _Cached:
    view: AccountView
    generation: int


class Directory:
    """Answers from its cache, then the mirror, then Postgres.

    Raises NotFound for what does not exist, and Unavailable when that cannot be known: an unknown source while
    Postgres is away is never called unknown. Safe for threads.
    """

    def __init__(self, mirror: Mirror, ring: KeyRing, database: Database) -> None:
        self._mirror = mirror
        self._ring = ring
        self._database = database
        self._generation = 0
        self._accounts: dict[str, _Cached] = {}
        self._source_accounts: dict[str, str] = {}
        self._key_accounts: dict[str, str] = {}
        self._secret_templates: dict[str, tuple[int, list[tuple[str, int]]]] = {}
        # An account that is slow to read holds up itself alone; Postgres is asked by one thread for all.
        self._reading: dict[str, Gate] = {}
        self._filling = Gate()
        self._asking = Gate()

    def saw(self, config_version: int) -> None:
        """Take note of the version that a reply of the outbox named."""
        self._generation = config_version

    def account(self, account_id: str) -> AccountView:
        """An account's configuration: newest as of the last version seen. Raises NotFound, Unavailable."""
        cached = self._accounts.get(account_id)
        if cached is not None and cached.generation == self._generation:
            return cached.view
        return self._checked(account_id) or self._read(account_id)

    def reload(self, account_id: str) -> AccountView:
        """The same, read again whatever was seen: after the outbox called the version stale."""
        self._accounts.pop(account_id, None)
        return self.account(account_id)

    def source(self, source_id: str) -> tuple[AccountView, SourceConfig]:
        """A source that takes webhooks, with its account. Raises NotFound, Unavailable."""
        account_id = self._source_accounts.get(source_id) or self._account_of_source(source_id)
        view = self.account(account_id)
        if source_id not in view.sources:
            # The mirror has named this account a moment ago: what is cached of it is older than the source.
            view = self.reload(account_id)
        source = view.sources.get(source_id)
        if source is None:
            self._source_accounts.pop(source_id, None)
            raise NotFound("there is no source by this id")
        return view, source

    def account_of_key(self, key: str) -> AccountView | None:
        """The account that an API key opens; None for a key that nobody has, or that was revoked. Raises Unavailable.

        A revoked key opens nothing from the moment on at which the version that revoked it is seen.
        """
        sha256 = key_hash(key).hex()
        account_id = self._key_accounts.get(sha256) or self._looked_up(lambda: self._mirror.account_of_key(sha256))
        if account_id is None:
            # Not remembered: it may be made in the next moment, and keys that are guessed must not fill the cache.
            return None
        view = self.account(account_id)
        if sha256 not in view.key_hashes:
            # The mirror has named this account a moment ago: what is cached of it is older than the key.
            view = self.reload(account_id)
        if sha256 not in view.key_hashes:
            self._key_accounts.pop(sha256, None)
            return None
        _bounded(self._key_accounts)[sha256] = account_id
        return view

    def templates_of_secret(self, secret: str) -> list[tuple[AccountView, TemplateConfig]]:
        """Every template whose webhook secret this is, or was a while ago, in any account. Raises Unavailable."""
        hashes = self._ring.lookup_hashes(secret)
        generation = self._generation
        known = self._secret_templates.get(hashes[0])
        if known is None or known[0] != generation:
            # Under every key of the ring: what was mirrored before a rotation is indexed under the old one.
            found = self._looked_up(lambda: sorted({pair for h in hashes for pair in self._mirror.templates_of(h)}))
            known = (generation, found)
            if found:
                # What is not there is not remembered: its template may be made in the next moment.
                _bounded(self._secret_templates)[hashes[0]] = known
        # The account may have been read again since the index was: a secret that was replaced opens nothing for long.
        return [
            (view, template)
            for view, template in self._templates(known[1])
            if has_secret(template, secret) or _had_secret(template, hashes)
        ]

    def templates_of_agent(
        self, provider: str, agent_id: str
    ) -> Sequence[tuple[AccountView, TemplateConfig | ConversationTemplate]]:
        """Every template that claims a provider's agent, in any account: it proves nothing. Raises Unavailable.

        Those behind conversations are among them.
        """
        behind = self._conversations(provider, agent_id).items()
        return [
            *((self.account(account_id), template) for account_id, template in behind),
            *self._templates(self._looked_up(lambda: self._mirror.templates_of_agent(provider, agent_id))),
        ]

    def conversation_of_agent(
        self, view: AccountView, provider: str, agent_id: str | None
    ) -> ConversationTemplate | None:
        """The template behind the conversation that an agent of this account was made for. Raises Unavailable.

        It is not in the account's configuration; accounts for which no agents are made here are not looked up.
        """
        if agent_id is None or not view.has_agents_of_ours:
            return None
        return self._conversations(provider, agent_id).get(view.account_id)

    def template_of_session(self, account_id: str, session_id: int) -> int | None:
        """The template of a session that the API made for this account, 0 if it has none; None for what is not known.

        Redis may have lost it: `template_of_lost_session` knows.
        """
        return self._mirror.template_of_session(account_id, session_id)

    def template_of_lost_session(self, account_id: str, session_id: int) -> int | None:
        """The same by Postgres, and from then on by Redis: a call whose session is not found is charged beside it.

        Raises Unavailable.
        """
        if not 0 < session_id < DERIVED_SESSION_BASE:
            return None
        with self._asking.passed():
            return self._mirror.restore_session(self._database, account_id, session_id)

    def owner_of_agent(self, agent_id: str) -> tuple[str, int] | None:
        """Account and session of an agent that joined a channel of Agora through the API. Raises Unavailable."""
        with self._asking.passed(), self._database.begin() as connection:
            return agora_agents.owner(connection, agent_id=agent_id)

    def _templates(self, found: list[tuple[str, int]]) -> list[tuple[AccountView, TemplateConfig]]:
        templates = []
        for account_id, template_id in found:
            view = self.account(account_id)
            if template_id not in view.templates:
                view = self.reload(account_id)
            if template_id in view.templates:
                templates.append((view, view.templates[template_id]))
        return templates

    def _conversations(self, provider: str, agent_id: str) -> dict[str, ConversationTemplate]:
        known = self._mirror.conversations.of_agent(provider, agent_id)
        if known is None:
            # Redis was emptied, and upkeep has not put all of them back yet.
            with self._filling.passed():
                known = self._mirror.conversations.publish(self._database, agent_id)
        return known

    def _checked(self, account_id: str) -> AccountView | None:
        """What is cached of an account, if the mirror has nothing newer: one look, and nobody waits for another's."""
        # Before the look: what changes after it is told by a later version.
        generation = self._generation
        cached = self._accounts.get(account_id)
        if cached is None or self._mirror.version(account_id) != cached.view.version:
            return None
        cached.generation = generation
        return cached.view

    def _read(self, account_id: str) -> AccountView:
        with self._gate(account_id).passed():
            known = self._checked(account_id)
            if known is not None:
                # Whoever was waited for has read it.
                return known
            generation = self._generation
            config = self._mirror.get(account_id)
            if config is None:
                # Redis was emptied, or this account is not mirrored yet.
                with self._filling.passed():
                    config = self._mirror.publish(self._database, account_id)
            view = AccountView(config)
            _bounded(self._accounts)[account_id] = _Cached(view, generation)
            return view

    def _gate(self, account_id: str) -> Gate:
        return self._reading.get(account_id) or _bounded(self._reading).setdefault(account_id, Gate())

    def _account_of_source(self, source_id: str) -> str:
        account_id = self._looked_up(lambda: self._mirror.account_of_source(source_id))
        if account_id is None:
            raise NotFound("there is no source by this id")
        _bounded(self._source_accounts)[source_id] = account_id
        return account_id

    def _looked_up(self, look: Callable[[], V]) -> V:
        """What `look` finds in the mirror; if that is nothing, what it finds once the mirror is complete."""
        found = look()
        if not found:
            self._complete()
            # In any case again: it may have been completed between the look and the question whether it is.
            found = look()
        return found

    def _complete(self) -> None:
        if self._mirror.is_complete():
            return
        with self._filling.passed():
            if not self._mirror.is_complete():
                self._mirror.publish_all(self._database)


def has_secret(template: TemplateConfig, secret: str) -> bool:
    """Whether this is the template's webhook secret by now."""
    # Bytes, because compare_digest raises for text that is not ASCII.
    return hmac.compare_digest(template.webhook_secret.encode(), secret.encode("utf-8", "surrogatepass"))


def _had_secret(template: TemplateConfig, hashes: Sequence[str]) -> bool:
    """Whether the secret with these keyed hashes was replaced so lately that tools of calls under way still send it."""
    is_former = any(known in template.former_secret_hashes for known in hashes)
    return is_former and _now_ms() < template.former_secret_until_ms


def _now_ms() -> int:
    return int(time.time() * 1000)


def _bounded(cache: dict[K, V]) -> dict[K, V]:
    if len(cache) >= _MAX_CACHED:
        cache.clear()
    return cache
