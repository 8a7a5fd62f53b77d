"""The machinery that all studies share: cells, runs, measures, the page."""
