"""A virtual Android phone: the real adbd of AOSP, in a folder that looks like a phone, on this Linux computer.

    cd tests && python -m virtual_phone start

`needs` says what the computer lacks, `adbd` builds the daemon from Debian's sources, `filesystem` makes the folder that
becomes the phone's root, `phone` runs it all, and `__main__` is the command line.
"""
