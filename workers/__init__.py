"""The worker processes: thin hosts for relaying, charging, recording and upkeep."""
