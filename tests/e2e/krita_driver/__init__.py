"""Runs inside Krita and acts as a user of the docker: selects, types, clicks, looks. For tests only."""

import os

if os.environ.get("EDITCRITIC_DRIVER"):
    from krita import Krita

    from .journeys import Driver

    Krita.instance().addExtension(Driver(Krita.instance()))
