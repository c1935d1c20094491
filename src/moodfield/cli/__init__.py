"""The command line: one module per command or group of commands.

Exit codes: 0 done, 1 error, 2 usage, 3 some files failed.
"""
