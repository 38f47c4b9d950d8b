"""What operator and agent share of Kubernetes: reflectors, work queues, writing, elections. On ``kubernetes.aio``."""
