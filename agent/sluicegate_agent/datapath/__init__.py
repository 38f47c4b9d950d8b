"""What the kernel holds, as typed rows, and the one protocol by which it is read and changed."""
