"""Networks from one TensorSpec to another. One file per kind."""
