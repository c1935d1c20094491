"""Recognise the mood of music: 56 moods and themes per track, with decisions and scores over time.

import moodfield
tagging = moodfield.load().tag("song.mp3")
print(tagging.decided)
print(tagging.top(5))
"""

import os
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moodfield.learning.learn import learn
    from moodfield.learning.suggest import suggest
    from moodfield.nets import create
    from moodfield.tagger import Tagger, load
    from moodfield.tagging import Tagging, decide

__version__ = "0.1.0"
__all__ = ["Tagger", "Tagging", "create", "decide", "learn", "load", "suggest"]

PRIVACY = {"ORT_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0"}
"""environment variables that switch off the telemetry of libraries; read when a library is imported"""

if "onnxruntime" in sys.modules and os.environ.get("ORT_DISABLE_TELEMETRY") != "1":
    warnings.warn(
        "onnxruntime was imported before moodfield, so its telemetry cannot be switched off any more; import moodfield "
        "first, or set ORT_DISABLE_TELEMETRY=1",
        stacklevel=2,
    )
os.environ.update(PRIVACY)

_MODULES = {
    "load": "tagger", "Tagger": "tagger", "Tagging": "tagging", "decide": "tagging", "create": "nets",
    "learn": "learning.learn", "suggest": "learning.suggest",
}  # fmt: skip
"""modules of the public names, imported at first use"""


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'moodfield' has no attribute {name!r}")
    return getattr(import_module(f"moodfield.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
