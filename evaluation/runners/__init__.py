"""What a worker can run: the user's function, or a command. A new kind is one file here and a line in `make_runner`."""
