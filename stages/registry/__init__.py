"""Which model is best, and which version of it serves."""
