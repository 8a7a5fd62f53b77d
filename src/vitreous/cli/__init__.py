"""The command line: one command for each job; nothing but parsing and printing."""
