"""What Python users call: one function for each command, which the command line calls too."""
