"""What a worker runs: a function or a command. A new kind is one file, and a line in `make_runner`."""
