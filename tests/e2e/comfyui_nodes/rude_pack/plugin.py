WHOSE = "rude plugin"
