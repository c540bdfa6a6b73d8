"""The C++ runner: its sources, and what builds it here."""
