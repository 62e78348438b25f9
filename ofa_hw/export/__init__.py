"""Export: a network to a file that was checked."""
