"""What all studies run on: cells, runs, measures, the page."""
