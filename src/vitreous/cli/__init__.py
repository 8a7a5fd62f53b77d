"""The command line: one command per job; it only parses and prints."""
