"""The block pack: its manifest, its files, and what writes them."""
