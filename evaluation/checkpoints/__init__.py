"""Checkpoints that travel from worker to worker."""
