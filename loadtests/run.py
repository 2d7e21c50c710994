#!/usr/bin/env python3
"""Measures Fulcrum beside mosquitto and fio on this machine. README.md says how to read it."""

from runner.commands import main

if __name__ == "__main__":
    main()
