"""How good a set of samples is: one function per file."""
