"""What differs: sequences, units of Python, trees, checkpoints, memories, whole states."""
