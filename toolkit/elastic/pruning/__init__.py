"""What may be removed from inside a block, and what is left of it then."""
