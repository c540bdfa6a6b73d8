"""The commands. Each module is one: thin, and nothing that Python code could not call itself."""
