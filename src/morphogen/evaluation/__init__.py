"""Scores with their floors: feature extractors, protocols, the page of results."""
