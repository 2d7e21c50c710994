"""Starts brokers, runs fulcrum-load against them in turn, and compares.

`machine` knows this host, `certificates` makes an authority, `seed` makes Fulcrum's identities, `load`
calls the driver, `yardstick` calls fio, `figures` turns rows into medians and ratios, `targets` judges
them, `tables`, `page` and `svg` show them, `commands` is what run.py offers. The brokers are in
`peers`. Standard library alone, so that it runs on any measuring host.
"""
