"""The command that lists SLURM jobs."""

# Prints an id a line: of the user's jobs that wait or run, and of each job of an array (12_0).
# --all: also of hidden partitions.
# Unlike sacct, it needs no accounting, which small clusters lack.
QUEUE_COMMAND = ("squeue", "--all", "--me", "--noheader", "--array", "--format=%i")
