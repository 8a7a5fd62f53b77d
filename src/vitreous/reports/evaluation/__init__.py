"""What an evaluation came to: its blocks for the terminal, JSON, Markdown and HTML."""
