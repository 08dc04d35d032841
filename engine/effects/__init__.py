"""The effects that states owe: each takes the state, does its work, and gives the events that record the outcome."""
