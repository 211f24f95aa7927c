"""The HTTP API: what customers and operators configure and ask, on the paths of each system that it stands in for."""
