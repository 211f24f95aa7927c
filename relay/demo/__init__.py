"""The demo: real servers from Python wheels, a sample provider and a sample receiver."""
