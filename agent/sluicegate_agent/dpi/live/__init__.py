"""Live sniffing: processes that read the kernel's rings, and the pool that keeps them running."""
