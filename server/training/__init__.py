"""Label-free material, and how well a critic does on it."""
