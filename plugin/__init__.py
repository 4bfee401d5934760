"""Where people meet editcritic: the client, the commands, the report."""
