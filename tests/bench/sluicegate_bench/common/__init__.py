"""What all parts share: repetition, tables, results as JSON, pictures, their sections in docs/performance.md."""
