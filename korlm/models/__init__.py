"""Language models under one contract: begin, step, log_probs; the state is a value."""
