"""The embedded engine: simple solids in photographs, by prompt. Its weights, its model card, the script
that trained it."""
