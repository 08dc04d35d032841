"""What is kept and what goes: what the log needs, collection, compaction, erasure, leftovers."""
