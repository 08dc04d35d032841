"""Effects and faces: one module per effect, the loop that runs them, the facade, the command line, the dashboard."""
