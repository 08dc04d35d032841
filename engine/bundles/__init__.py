"""What an auditor gets: bundles, anchors, proofs and signatures over the rows of the log."""
