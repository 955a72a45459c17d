"""Names of files and attributes that the parts of a search share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


DATABASE = "search.db"


PRUNED = "pruned"  # attribute of a trial: why its job was ended early


# A share of the training as a whole number, which Optuna's steps are: trials with batches of other
# sizes have other steps, and can be compared all the same.
PROGRESS_RESOLUTION = 1_000_000
