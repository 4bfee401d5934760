"""Faces that an edit touches, each judged by itself; docs/faces.md has what is measured and how well."""
