"""`python -m moodfield` is the command `moodfield`.

In: nothing. Out: whatever the command says.
Knows nothing of: commands.
"""

from moodfield.cli import front

if __name__ == "__main__":
    front.main()
