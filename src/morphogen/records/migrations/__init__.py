"""The schema of the records as it was from version to version."""
