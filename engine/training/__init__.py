"""The parts of a training: what learns, how texts are encoded, the descent, its saved state, what is measured."""
