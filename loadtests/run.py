#!/usr/bin/env python3
"""Measures Fulcrum beside other brokers and fio on this machine. README.md says how to read it."""

from runner.commands import main

if __name__ == "__main__":
    main()
