"""What a trained model is taught beyond its data. One class per file."""
