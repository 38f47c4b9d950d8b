"""The kernel's BPF objects by way of libbpf: maps, programs and links, the BPF file system, jiffies."""
