"""Contract suites for plug-in authors: subclass one and give it your implementation."""
