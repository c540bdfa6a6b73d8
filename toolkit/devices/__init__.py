"""Devices: where blocks are measured, plans evaluated, and subnets paged in and run.

`base` says what every device can do, and `connect` makes one of an address. `local` is this computer, `phone` a phone,
or this computer by way of the runner that phones have, and `adb` how a phone is reached.
"""
