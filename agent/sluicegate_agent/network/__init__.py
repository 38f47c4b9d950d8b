"""The network of the agent's namespace: links, addresses, and the way to each backend."""
