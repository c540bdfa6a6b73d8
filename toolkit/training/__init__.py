"""How the alternatives of a supernet learn to stand in for the original blocks. Needs torch."""
