"""What is wrapped around a model, with the same contract as what it wraps."""
