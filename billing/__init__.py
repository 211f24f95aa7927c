"""Switchhook's billing: what a call costs, what was charged, and what that adds up to."""
