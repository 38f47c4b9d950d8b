"""What the agent tells people and programs: status, why, metrics, log lines. Pure but for the metrics endpoint."""
