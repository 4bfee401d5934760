"""Judges candidates: the model server."""
