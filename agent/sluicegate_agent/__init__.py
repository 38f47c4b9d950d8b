"""The per-node agent: keeps the kernel's data path in line with the resources, and answers people's questions."""
