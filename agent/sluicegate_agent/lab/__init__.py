"""A network on one machine: namespaces, servers and load, for the demo and for the tests in tests/lab."""
