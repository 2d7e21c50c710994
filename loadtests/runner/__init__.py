"""Starts brokers, runs fulcrum-load against them in turn, and compares.

`machine` knows this host, `servers` starts and stops brokers, `seed` makes Fulcrum's identities,
`load` calls the driver, `yardstick` calls fio, `figures` turns rows into medians and ratios,
`commands` is what run.py offers. Standard library alone, so that it runs on any measuring host.
"""
