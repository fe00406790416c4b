"""Principles by which a model learns and samples. One file per family."""
