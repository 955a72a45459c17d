"""Jobs of a sweep in processes of their own: several at a time, or on a cluster.

Launchers of our own rather than Hydra's, which were last released in 2022: those lose all jobs with
the first worker that dies, let every job take the whole machine and the same GPU, and know neither
our failures nor our folders. joblib's loky and submitit themselves are well kept.
"""

from __future__ import annotations
