"""Steering by programs of the user's, in a container or not: a command an iteration, or a service that stays up."""
