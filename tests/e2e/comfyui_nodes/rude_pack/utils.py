WHOSE = "rude utils"
