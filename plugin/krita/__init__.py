"""A docker for Krita. The folder is copied into Krita as it is: it needs Krita, its Qt, and the standard library."""

from importlib.util import find_spec

# Elsewhere the package is only read, by tests and by the installer.
if find_spec("krita") is not None:
    import krita

    from .docker import register

    register(krita)
