"""Other libraries, one a file, each driven through its own public ask and tell and with its own defaults."""
