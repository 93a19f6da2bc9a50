"""How fast, how much: the bot measured beside what the machine can do at all. `make bench`."""
