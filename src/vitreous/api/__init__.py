"""What Python users call: one function per command, which the command line calls too."""
