"""Profiles for people: as text, and as a page with figures."""
