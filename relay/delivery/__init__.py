"""Delivery: from a claimed unit of work to an HTTP request at an address the customer chose, and what comes of it."""
