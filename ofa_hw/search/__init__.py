"""Search: the best sub-network under constraints."""
