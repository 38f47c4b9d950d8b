"""Signals: what tells how loaded a backend is. Each kind is one module; the collector asks and remembers."""
