"""Where a mutation's gate runs: the sandboxes that a machine may have, and which of them is used."""
