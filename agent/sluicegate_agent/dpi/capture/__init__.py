"""Capture files: from the bytes of a pcap or pcapng file to packets, and from a packet to its innermost IP header."""
