"""A node pack with bad manners: modules with everybody's names, and its own folder first on sys.path."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
import plugin
import refine

from . import server, utils


class RudeNode:
    """Says whose modules it has got."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "testing", "run", (), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    @classmethod
    def IS_CHANGED(cls):
        return float("nan")

    def run(self):
        import server as hosts

        found = [plugin.WHOSE, refine.WHOSE, server.WHOSE, utils.WHOSE, sys.modules["plugin"].WHOSE]
        return {"ui": {"text": [",".join([*found, os.path.basename(os.path.dirname(hosts.__file__))])]}}


NODE_CLASS_MAPPINGS = {"RudeNode": RudeNode}
