"""What a stranger who trusts one public key can check of what a server gave out, without the server.

    text ──▶ signed.py     the manifest of a release: canonical, signed by a trusted key, for this purpose
             chain.py      the manifests of an app: each names the one before, none is missing
             mirror.py     a folder of them with their files: every byte is one that a manifest names
             commands.py   what `dist verify` calls

Nothing here knows of a server, a database or a clock. `problem.py` has the rules that can be broken; docs/verify.md lists them.
"""
