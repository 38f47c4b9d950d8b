"""Which packets of which flows the engine gets to see: what the kernel does, as a function of packets and verdicts.

It is how ``sluicegate replay`` works without a kernel, and what the kernel's programs are compared with in tests.
"""
