"""How texts become vectors: models on the disk, ways to run them, batches, a cache."""
