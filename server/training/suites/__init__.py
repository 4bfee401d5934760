"""What a critic is asked in an evaluation, one module each; all photographs and masks come from the same jobs."""
