"""How commands run in containers."""
