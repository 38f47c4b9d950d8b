"""What this machine offers and lacks, each row with a remedy."""
