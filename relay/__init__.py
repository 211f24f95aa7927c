"""Switchhook's relay: everything a webhook touches, in the order it is touched."""
