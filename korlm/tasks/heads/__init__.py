<<<<<<< HEAD
"""Blocks (``nn.Module``) that only tasks use."""
=======
"""Modules between the encoder and the loss of a task."""
>>>>>>> cls
