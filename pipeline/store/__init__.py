"""The digest store: immutable files named by their SHA-256.

`layout.py` is the only builder of paths; `blobs.py` says what a store promises; `local.py` keeps that promise on a file system.
"""
