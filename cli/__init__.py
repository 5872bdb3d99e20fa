"""`dist`: the command line client of a distd server. It knows HTTP and nothing of the server's code.

Imports inside are relative only, because the same files are also packaged alone, as `dist_cli`.
"""

__version__ = "0.1.0"
