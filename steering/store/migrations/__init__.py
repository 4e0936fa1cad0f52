"""The store's tables through the versions of hpo-steer, one Alembic revision a file."""
