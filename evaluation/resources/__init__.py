"""What each slot of a worker may use: GPUs, cores, memory; and seeing to it that it does not use more."""
