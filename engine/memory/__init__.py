"""Questions to the vector memory: search, answers and how sure they are, and its change of space."""
