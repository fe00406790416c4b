"""Runs side by side: comparing families, ranking them, training a record again."""
