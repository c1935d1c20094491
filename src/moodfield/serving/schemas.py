"""Bodies of requests, and the form of answers for the documentation."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Tag = Annotated[str, Field(max_length=100)]
Tags = Annotated[list[Tag], Field(max_length=100)]
TrackId = Annotated[int, Field(ge=1, lt=2**63)]
MAX_MINUTES = 100_000


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Corrections(_Body):
    """Tags that a track has, or has not; earlier corrections of other tags stay unless `clear`."""

    add: Tags = []
    remove: Tags = []
    clear: bool = False


class ScanRequest(_Body):
    """The folder to scan; without one, all of earlier scans."""

    path: Annotated[str, Field(max_length=4096)] | None = None


class PlaylistRequest(_Body):
    """What a playlist should be like, or the tracks that it has."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    tags: Tags = []
    without: Tags = Field(default=[], alias="not")
    minutes: Annotated[float, Field(gt=0, le=MAX_MINUTES)] = 60
    like: TrackId | Annotated[list[TrackId], Field(max_length=100)] | None = None
    first: TrackId | None = Field(default=None, alias="from")
    last: TrackId | None = Field(default=None, alias="to")
    energy: Literal["rising", "falling", "peak"] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    tracks: Annotated[list[TrackId], Field(max_length=10_000)] | None = None
    format: Literal["json", "m3u8"] = "json"


class ProblemAnswer(BaseModel):
    """A problem (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


class TaggingAnswer(BaseModel):
    """`Tagging.to_dict`, and with `over_time` the waveform as `envelope`."""

    source: str
    duration: float
    model: str
    decided: list[str]
    moods: list[str]
    themes: list[str]
    relative: bool
    scores: dict[str, float]
    times_usual: dict[str, float] | None
    evidence: dict[str, float]
    thresholds: dict[str, float]
    priors: dict[str, float] | None
    warnings: list[str] = []
    heads: dict[str, Any] = {}
    over_time: dict[str, Any] | None = None
    envelope: list[float] = []
    embedding: list[float] | None = None


class ModelsAnswer(BaseModel):
    """The served models, the default one first."""

    models: list[dict[str, Any]]


class TrackRow(BaseModel):
    """A track as in exports of the library, with its number."""

    model_config = ConfigDict(extra="allow")

    id: int
    path: str
    title: str
    artist: str
    album: str
    genre: str
    year: int | None
    duration: float | None
    model: str | None


class TracksAnswer(BaseModel):
    """Tracks, how many there are, the cursor of the next ones, and with `ids` the numbers of all."""

    tracks: list[TrackRow]
    total: int
    next: str | None
    ids: list[int] = []


class SimilarAnswer(BaseModel):
    """Similar tracks with `similarity`, −1 … 1."""

    tracks: list[TrackRow]


class PlaylistAnswer(BaseModel):
    """Tracks in their order with `reason`; `message` if it is shorter than requested, or tracks have gone."""

    tracks: list[TrackRow]
    seconds: float
    message: str | None


class ScanAnswer(BaseModel):
    """A scan, and how far it is."""

    id: int
    state: Literal["running", "done", "failed", "cancelled"]
    paths: list[str]
    done: int
    total: int | None
    unchanged: int
    failed: int
    missing: int
    rate: float | None
    seconds_left: float | None
    current: str | None
    error: str | None
    errors: list[dict[str, str]]


class ScansAnswer(BaseModel):
    """The last scans, the newest first."""

    scans: list[ScanAnswer]


class MapRegion(BaseModel):
    """A name on the map, and how many tracks are nearest to it."""

    tag: str
    x: float
    y: float
    tracks: int


class MapAnswer(BaseModel):
    """The map as columns; `tag` are indices into `tags`."""

    ids: list[int]
    x: list[float]
    y: list[float]
    tag: list[int]
    tags: list[str]
    regions: list[MapRegion]


class StatisticsAnswer(BaseModel):
    """Counts of a library, and its folders."""

    model_config = ConfigDict(extra="allow")

    tracks: int
    failed: int
    hours: float
    tags: dict[str, int]
    models: list[dict[str, Any]]
    folders: list[str]
