"""Every group of operations, in the order in which the description lists them."""

from __future__ import annotations

from typing import Final

from relay.api import description
from relay.api.core.operations import Group, Operation

GROUPS: Final[tuple[Group, ...]] = (
    description.group,
)  # fmt: skip


def operations() -> list[Operation]:
    """All operations of the API."""
    return [operation for group in GROUPS for operation in group.operations]
