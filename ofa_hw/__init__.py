"""Profile a once-for-all supernet on a device, find its best sub-network, and ship it."""
