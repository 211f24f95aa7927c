"""The providers' REST APIs: one class for each, over one client that times out, tries again and translates errors."""
