"""The command line: one module a group of commands.

In: a command line. Out: tables, JSON lines, exit codes: 0 done, 1 error, 2 usage, 3 some files failed.
Knows nothing of: how anything is done.
"""
