"""What runs inside the virtual machine, as its only program beside what it starts.

`init` mounts and loads, `main` carries out the order and reports, `checks` and `idle` are what may be ordered, `node` is the
edge node under test, `reporting` the serial line to the host.
"""
