"""One uneven pool with a backend that slows down, recovers, and another one that fails fast."""
