"""One file for each part of the studio: its pages, and what its forms do."""
