"""Define constants that the parts of a search share."""

DATABASE = "search.db"  # file in the folder of a sweep

PRUNED = "pruned"  # attribute of a trial that has the reason why its job was pruned

# Optuna's steps are integers: here, the fraction of training times this number. Optimizer steps
# could not be compared between trials with different batch sizes.
PROGRESS_RESOLUTION = 1_000_000
