"""`X-Request-Id`: what to name when something has to be looked up. Every answer has one, also to a webhook.

Counted and not drawn, because webhooks are many: the random part belongs to the process.
"""

from __future__ import annotations

import itertools
import os
import secrets
from typing import Final

REQUEST_ID: Final = "X-Request-Id"


class RequestIds:
    """Makes ids that no other process makes, nor this one again. Safe for threads."""

    def __init__(self) -> None:
        self.renew()
        os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        """Begin anew: a child process would count on where its parent stands."""
        self._prefix = f"req_{secrets.token_hex(8)}"
        self._numbers = itertools.count(1)

    def new(self) -> str:
        """`req_` and at least 24 hex digits."""
        return f"{self._prefix}{next(self._numbers):08x}"


new_request_id: Final = RequestIds().new
