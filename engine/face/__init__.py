"""The parts of the facade: what an agent asks of its log, memory, points in time, learning and store."""
