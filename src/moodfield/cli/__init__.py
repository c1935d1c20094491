"""The front desk: every command, none of the work.

In: a command line. Out: tables, JSON lines, exit codes: 0 done, 1 refused, 2 usage, 3 some files failed.
Knows nothing of: how anything is done.
"""
