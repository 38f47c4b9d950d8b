"""Where the configuration comes from."""
