"""A trained run on disk: checkpoints, exported weights and settings."""
