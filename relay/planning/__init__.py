"""How large the servers must be for a load and an outage: arithmetic on figures that were measured once. Pure.

`plan` says what will be needed, `explained` how each figure came about.
"""

from __future__ import annotations

from relay.planning.allocators import ALLOCATORS, Allocator
from relay.planning.estimate import Load, Plan, plan
from relay.planning.report import explained

__all__ = ["ALLOCATORS", "Allocator", "Load", "Plan", "explained", "plan"]
