"""Loggers: a run as other tools show it, fed from the store by processes beside steering."""
