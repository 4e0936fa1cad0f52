"""Revisions, numbered by four digits in the order in which they were made."""
