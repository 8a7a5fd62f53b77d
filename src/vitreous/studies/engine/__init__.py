"""The basis of all studies: cells, runs, measures, the page."""
