"""The operator: resources in, configuration for the nodes out, status back."""
