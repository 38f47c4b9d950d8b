"""Asking others over the network: when, how many at once, and over which connections."""
