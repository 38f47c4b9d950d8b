"""The same HTTP load through each balancer: latency, and what the balancer costs."""
