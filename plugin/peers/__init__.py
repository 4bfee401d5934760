"""Other ways to serve the same critic, for `editcritic bench serve --against`. Each module is a program of its own."""
