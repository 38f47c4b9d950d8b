"""What the sniffer's part in the kernel costs a forwarded packet: by test-run, and in packets per second."""
