"""Real requests through a balancer: the network, the backends, the load generator, the balancers to compare."""
