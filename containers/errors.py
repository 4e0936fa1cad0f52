"""What goes wrong with containers before anything runs in one."""

from __future__ import annotations

from hpo_steer.errors import UserError


class ContainerError(UserError):
    """No runtime that works, no such image, or something that the runtime cannot do; says what to do."""
