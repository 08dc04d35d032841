"""Going back: the plan of a restore, its staging, its steps, and what finishes one that was cut off."""
