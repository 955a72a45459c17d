"""Building blocks (`nn.Module`) that models and tasks share."""
