"""Where steering writes everything down: SQLite by default, PostgreSQL by URL."""
