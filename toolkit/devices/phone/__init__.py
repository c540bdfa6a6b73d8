"""What is done on a phone: a small C++ program is pushed to it, and called over whatever way reaches it.

`push` and `calls` use a transport, `device` makes a `Device` of them, and `here` reaches this computer as if it were a
phone. docs/phone.md describes the protocol.
"""
