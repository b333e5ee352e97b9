"""Alerts out of the system: what needs a person now, what of it is news, and saying it to a webhook."""
