"""How good a checkpoint is at answering and at comparing texts, measured on labelled rows of a file."""
