"""What operators may see: logs, metrics, and the rule for what may be in them."""
