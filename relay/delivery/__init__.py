"""Delivery: from a claimed unit of work to an HTTP request at an address the customer chose, and what comes of it."""

from __future__ import annotations

from typing import Final

# How every request to a customer's server introduces itself.
USER_AGENT: Final = "Switchhook/0.1"
