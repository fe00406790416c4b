"""Ways to draw a sample along a Gaussian path. One function per file."""
