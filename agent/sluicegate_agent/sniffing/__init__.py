"""The kernel half of the sniffer as user space sees it: who sniffs where, its tables, its flows and its counters."""
