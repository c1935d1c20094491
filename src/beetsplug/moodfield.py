"""The beets plugin `moodfield`: moods and themes of tracks as fields, by the decisions of moodfield's library."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from beets import plugins, ui
from beets.dbcore import types

from moodfield import errors
from moodfield.cli import decided_tags
from moodfield.errors import FileTagsError, MoodfieldError
from moodfield.library import database

FIELDS = ("moods", "themes")


class MoodfieldPlugin(plugins.BeetsPlugin):
    """Adds the fields `moods` and `themes`, and the command `beet moodfield`.

    Files are not changed; `moodfield write-tags` writes moods into them. Configuration:

        moodfield:
            auto: no        # whether imported tracks are tagged
            db:             # the database, by default that of moodfield's own commands
            absolute: no    # whether decisions are not relative to the library
            jobs: 0         # processes; 0 chooses by cores and files
    """

    item_types: ClassVar[dict[str, types.Type]] = dict.fromkeys(FIELDS, types.SEMICOLON_SPACE_DSV)

    def __init__(self) -> None:
        super().__init__()
        self.config.add({"auto": False, "db": "", "absolute": False, "jobs": 0})
        if self.config["auto"].get(bool):
            self.register_listener("album_imported", self._album_imported)
            self.register_listener("item_imported", self._item_imported)

    def commands(self) -> list[ui.Subcommand]:
        """The command `beet moodfield [QUERY]`."""
        command = ui.Subcommand("moodfield", help="tag tracks with moods and themes")
        command.parser.add_option("-p", "--pretend", action="store_true", help="show the tags, and store nothing")
        command.parser.add_option("--absolute", action="store_true", help="decide against music in general")
        command.func = self._run
        return [command]

    def _run(self, lib: Any, options: Any, query: list[str]) -> None:
        absolute = options.absolute or self.config["absolute"].get(bool)
        for item, field, old, new in self._changes(lib.items(query), absolute=absolute):
            ui.print_(errors.printable(f"{item}: {field}: {_join(old)} → {_join(new)}"))
            if not options.pretend:
                item[field] = list(new)
                item.store()

    def _album_imported(self, lib: Any, album: Any) -> None:
        self._import(album.items())

    def _item_imported(self, lib: Any, item: Any) -> None:
        self._import([item])

    def _import(self, items: Iterable[Any]) -> None:
        """Tag imported tracks; an error does not stop the import."""
        try:
            for item, field, _, new in self._changes(items, absolute=self.config["absolute"].get(bool)):
                item[field] = list(new)
                item.store()
        except ui.UserError as error:
            self._log.warning("{}", error)

    def _changes(
        self, items: Iterable[Any], *, absolute: bool
    ) -> Iterator[tuple[Any, str, tuple[str, ...], tuple[str, ...]]]:
        """The fields that change: item, name, old and new values; nothing replaces values by none."""
        listed = list(items)
        paths = [Path(os.fsdecode(item.path)) for item in listed]
        if not paths:
            return
        library = Path(self.config["db"].as_filename()) if self.config["db"].get() else database.default_path()
        try:
            jobs = self.config["jobs"].get(int)
            stored = decided_tags.decide(library, paths, model=None, absolute=absolute, jobs=jobs)
        except (MoodfieldError, OSError) as error:
            raise ui.UserError(str(error)) from error
        for item, path in zip(listed, paths, strict=True):
            try:
                tags = stored.read(path)
            except FileTagsError as error:
                self._log.warning("{}", error)
                continue
            for field in FIELDS:
                old, new = tuple(item.get(field) or ()), getattr(tags, field)
                if new and new != old:
                    yield item, field, old, new


def _join(values: tuple[str, ...]) -> str:
    return "; ".join(values) or "–"
