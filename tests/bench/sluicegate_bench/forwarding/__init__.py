"""Packets per second through one core, ours beside nftables and plain routing."""
