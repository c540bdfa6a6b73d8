"""The ways to reach a phone: an address becomes a `Transport`, which pushes files and runs commands.

`discovery` goes from an address to a transport; the kinds are in `adb_shell_transport` (the library, over TCP and USB)
and `adb_program_transport` (the user's own adb).
"""
