"""Settings of the commands other than prepare and train."""
