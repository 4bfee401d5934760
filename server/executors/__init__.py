"""Where critics run."""
