"""Tasks that models are trained for: batches, loss and metrics."""
