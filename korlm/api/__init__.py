"""What korlm offers in Python: training a run, and using a trained one."""
