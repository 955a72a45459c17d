"""Blocks (``nn.Module``) that only tasks use."""
