"""Evaluations as programs: what is compiled from subnets, checked, and run by devices."""
