"""A worker that was taken over, as far as the pool can tell."""

import socket
import struct
import sys

with socket.socket(fileno=int(sys.argv[4])) as pool:
    pool.sendall(struct.pack("<II", 20, 2) + bytes(20))
    while pool.recv(1 << 16):
        pass
