"""The options of every command: frozen dataclasses, no torch."""
