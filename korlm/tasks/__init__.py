"""What a model is trained for: batches, loss and metrics."""
