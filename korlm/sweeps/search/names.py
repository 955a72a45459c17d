"""Constants shared by the parts of a search."""

DATABASE = "search.db"

PRUNED = "pruned"  # attribute of a trial: why its job was pruned

# Optuna's steps are integers: the fraction of training times this number. Optimizer steps would not
# be comparable between trials with different batch sizes.
PROGRESS_RESOLUTION = 1_000_000
