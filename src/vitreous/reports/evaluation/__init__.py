"""The results of an evaluation: blocks for the terminal, JSON, Markdown and HTML."""
