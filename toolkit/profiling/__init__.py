"""A device measured and searched: its blocks' latencies, its front, and the profile that says so."""
