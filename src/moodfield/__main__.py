"""Run the command `moodfield` as `python -m moodfield`."""

from moodfield.cli import main

if __name__ == "__main__":
    main.main()
