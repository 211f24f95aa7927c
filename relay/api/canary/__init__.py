"""CanaryLLM's conversational API: its paths, its envelope, its names and limits."""
