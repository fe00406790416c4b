"""What happened here: people, prompts, generations, feedback, data, runs and models, encrypted."""

from morphogen.records.records import Records, open

__all__ = ["Records", "open"]
