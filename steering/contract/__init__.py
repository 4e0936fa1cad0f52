"""Runs a user's steering on its own and says what of its contract holds, before any GPU hour is spent."""
