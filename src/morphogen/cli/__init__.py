"""The command line: one file per verb, found by scanning this folder."""
