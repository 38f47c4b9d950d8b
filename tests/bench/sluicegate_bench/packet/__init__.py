"""Cost per packet of the real programs by test-run, beside floors of the same run."""
