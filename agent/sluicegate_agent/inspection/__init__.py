"""A closer look at one packet: what the kernel knows of it, and what the loaded programs do with it."""
