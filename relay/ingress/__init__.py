"""The thin ingress: verify, seal, commit, answer. It touches Redis only."""
