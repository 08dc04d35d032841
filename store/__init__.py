"""The durable part: event log, blobs, trees, checkpoints, vector memory and state snapshots."""
