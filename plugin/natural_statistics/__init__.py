"""Judges an edit by what natural photographs have in common, apart from every critic."""
