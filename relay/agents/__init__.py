"""Voice agents at the providers: kept in step with templates, and called when a session begins."""
