"""API finder: a small agent that finds the Python object that a request asks for."""
