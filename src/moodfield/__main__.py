"""`python -m moodfield` is the command `moodfield`.

In: nothing. Out: whatever the command says.
Knows nothing of: commands.
"""

from moodfield.cli import main

if __name__ == "__main__":
    main.main()
