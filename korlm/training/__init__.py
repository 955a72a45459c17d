"""Training: the loop, the loss, optimizers and schedules, checkpoints, trackers."""
