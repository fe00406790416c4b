"""What is done with a trained model: one function per file, asking for capabilities."""
