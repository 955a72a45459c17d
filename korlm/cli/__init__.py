"""Code that all commands share: Hydra, help, error messages and exit codes."""
