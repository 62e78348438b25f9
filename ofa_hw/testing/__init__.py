"""What a backend of one's own is tested with."""
