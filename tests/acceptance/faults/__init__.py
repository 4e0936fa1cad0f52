"""Faults of every kind against the installed programs, and the books checked afterwards."""
