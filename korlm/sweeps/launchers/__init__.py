"""Launchers: run the jobs of a sweep in parallel processes or on a cluster.

Hydra's own launchers (last released in 2022) lose all jobs when one worker dies, give every job the
whole machine and the same GPU, and do not record failures in the job's folder.
"""

from __future__ import annotations
