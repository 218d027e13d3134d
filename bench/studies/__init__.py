"""Studies of quality, error rates and run time, each a command of its own."""
