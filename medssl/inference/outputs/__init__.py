"""What predictions are written as, one kind per file."""
