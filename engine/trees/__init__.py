"""The agent's folder as a tree: what is captured, what is left out, what changed since."""
