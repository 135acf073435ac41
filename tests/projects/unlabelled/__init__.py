"""A test split without labels, of which only predictions are wanted."""
