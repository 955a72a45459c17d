"""What all commands share: Hydra, error messages and exit codes."""
