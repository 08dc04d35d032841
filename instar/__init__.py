"""Instar: an event-sourced state machine engine for agents that change themselves."""

from instar.fsm.words import held_out

__all__ = ["held_out"]
