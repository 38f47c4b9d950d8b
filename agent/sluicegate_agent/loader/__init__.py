"""Compiles the programs in ``bpf/`` and loads them, in a process of its own that ends when they are pinned.

Only that process imports bcc, whose compiler takes 140 MB at its peak, and only for what is not in the ``cache`` of
compiled files. The agent asks through ``client`` and goes on
with what is pinned, described by a ``manifest``.
"""
