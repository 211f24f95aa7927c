"""Grants: what an account may use with the operator's key that was not made for it here. Only operators give them."""

from __future__ import annotations

from typing import Final

from relay.calls import MAX_FACT_CHARS
from relay.errors import BadRequest, NotFound
from relay.provisioning.changes import Changes
from relay.provisioning.checks import checked_text
from relay.store import grants, shown
from relay.store.grants import Grant

# Those whose APIs are called with the operator's key.
PROVIDERS_WITH_GRANTS: Final = ("agora", "elevenlabs", "retell")


class GrantChanges(Changes):
    """Gives grants, and takes them back."""

    def add_grant(self, *, account_id: str, provider: str, object_id: str) -> Grant:
        """Grant an agent, or a project of Agora by its app id; again: nothing more happens.

        Raises NotFound, BadRequest, and Conflict `grant_taken` for an agent that is another account's.
        """
        this = _checked(account_id, provider, object_id)
        with self._locked(account_id) as connection:
            before = grants.find(connection, **this)
            row = before or grants.add(connection, **this)
            if before is None:
                name = f"{provider}/{object_id}"
                self._audit(connection, "grant.added", name, account_id=account_id, after=shown.grant(row))
        return row

    def remove_grant(self, *, account_id: str, provider: str, object_id: str) -> None:
        """Take a grant back: nothing new is begun with it; what is under way ends by itself. Raises NotFound."""
        this = _checked(account_id, provider, object_id)
        with self._locked(account_id) as connection:
            before = grants.get(connection, **this)
            grants.remove(connection, **this)
            name = f"{provider}/{object_id}"
            self._audit(connection, "grant.removed", name, account_id=account_id, before=shown.grant(before))


def _checked(account_id: str, provider: str, object_id: str) -> dict[str, str]:
    if provider not in PROVIDERS_WITH_GRANTS:
        raise NotFound(f"grants are given at {', '.join(PROVIDERS_WITH_GRANTS)}")
    try:
        checked_text(object_id, "object_id", MAX_FACT_CHARS)
    except BadRequest:
        raise NotFound("there can be nothing by this id") from None
    return {"account_id": account_id, "provider": provider, "object_id": object_id}
