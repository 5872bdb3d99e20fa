"""Signed, content-addressed packages, as a library for programs that want to check what they were given without asking anybody.

Two layers. The **content model** needs nothing but SHA-256, and importing it loads no crypto and no compression library:

    blob.py            bytes by their digest, and the Merkle root that verifies a part without the whole
    tree_paths.py      which paths and symbolic links a tree may have
    tree.py            a folder as one canonical text: parse, emit, find
    cas.py             what a store of blobs promises, and trees in it: put, get, verify
    folder_cas.py      such a store as a folder      store_cas.py      … as the server's digest store
    directory.py       from a folder on the disk to a tree
    materialise.py     from a tree to a folder on the disk
    sources.py         blobs from several places, tried in order

The **package model** is an extra (`distd[package]`):

    manifest.py        what a package says of itself, in one canonical text
    chunks.py          the chunk index: sizes, roots and chunks of all blobs
    compression.py     none, deflate, lz4, zstd with pinned levels
    sealed.py          a manifest with its signature, and whether we trust it
    native.py          the format .dpk          portable.py        the format .tar.gz
    create.py  read.py  describe.py             a package made, verified and unpacked, and told about

Everything comes in as an argument: no environment, home folder, network, clock or entropy is used here. What goes wrong is an
`errors.PackageError` of one of five categories; the diagnostics go to a sink of the caller, and without one nothing is printed.
The bytes on the wire are written down in docs/formats/, with test vectors.
"""
