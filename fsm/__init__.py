"""The pure core: events, states, the machine, the fold and the policies.

Nothing here reads a clock, a file, a socket or a random number: the same log gives the same state, always.
"""
