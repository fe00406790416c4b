"""From a source to encoded, split, hashed data."""
