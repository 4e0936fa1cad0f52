"""What can be asked of runs and of this installation: one module a command, registered in `steering.cli`."""
