"""Models that other libraries run, behind our capabilities. One class per file."""
