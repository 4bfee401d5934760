WHOSE = "rude server"
