WHOSE = "rude refine"
