"""Text from elsewhere, made safe to print.

In: names of files, tags, messages of other programs. Out: text that cannot move a cursor or colour a terminal.
Knows nothing of: terminals, HTML, or where a text is shown.
"""

import unicodedata

JOINERS = frozenset("\u200c\u200d\u00ad")
"""invisible characters that belong to words of some languages, and to emoji"""


def printable(text: str) -> str:
    """Text with U+FFFD for every control character, line break, bidirectional control and lone surrogate."""
    if text.isprintable():
        return text
    return "".join(letter if _is_harmless(letter) else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _is_harmless(letter: str) -> bool:
    return letter.isprintable() or letter in JOINERS or unicodedata.category(letter) == "Zs"
