"""The page of an explanation, with its explorer."""
