"""Signatures: from rules in Suricata's language to patterns and conditions that the engine can check."""
