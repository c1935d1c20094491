"""The command line: one module a group of commands. Exit codes: 0 done, 1 error, 2 usage, 3 some files failed."""
