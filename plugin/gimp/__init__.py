"""GIMP 2.10, from outside: what is selected there is judged or edited, and comes back as a layer."""
