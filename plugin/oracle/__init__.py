"""Tells what an edit of the rendered world shows, so that prompt-following can be measured without people."""
