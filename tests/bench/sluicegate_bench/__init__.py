"""Measurements of what Sluicegate costs, each beside what it is compared with. ``make bench`` runs them."""
