"""The error of everything that brings, mixes or renders music."""

import lzma
import zipfile
import zlib

ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError)
"""what `zipfile` raises for a damaged archive, beside `OSError`; RuntimeError: encrypted, or an unknown method"""


class MusicError(Exception):
    """A piece, or a package, that cannot be brought, mixed or rendered; the message has the reason."""
