"""Training: progressive shrinking with distillation."""
