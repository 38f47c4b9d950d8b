"""Weights: from signals to the share of new flows that each backend gets. Pure; time is an argument."""
