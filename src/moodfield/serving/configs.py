"""The config of the service: models, database, limits, and who may use it."""

from dataclasses import dataclass, field
from pathlib import Path

from moodfield.errors import ConfigError

LOOPBACK = frozenset(("127.0.0.1", "::1", "localhost"))
"""addresses that only programs of the same machine reach"""
MIN_TOKEN = 16
"""fewest characters of a token"""


@dataclass(frozen=True)
class ServiceConfig:
    """What is served, and within which limits."""

    database: Path
    """the library; made if it does not exist"""
    models: tuple[str, ...] = ("default",)
    """names, folders or runs of models; the first one tags if no other is asked for, and scans"""
    host: str = "127.0.0.1"
    """address that is listened on"""
    token: str | None = field(default=None, repr=False)
    """what requests must be authorized with; None: by nothing, on a loopback address alone"""
    jobs: int = 1
    """processes that tag, each on one core"""
    queue: int = 8
    """requests for each process that may be uploaded, wait or be tagged at once; more are answered 503"""
    max_file_bytes: int = 256 * 2**20
    """bytes of one file"""
    max_batch_bytes: int = 1024 * 2**20
    """bytes of the body of a batch"""
    max_batch_files: int = 64
    """files of a batch"""
    max_json_bytes: int = 64 * 2**10
    """bytes of the body of every other request"""
    stalled_seconds: float = 30.0
    """time after which an upload without a byte is ended"""
    min_rate: float = 16_384.0
    """bytes in a second that an upload must reach on average, after `stalled_seconds`"""
    upload_seconds: float = 600.0
    """time after which an upload is ended, however fast it is"""
    tag_seconds: float = 60.0
    """time after which the process that decodes and tags a file is killed"""
    tag_memory_bytes: int = 3 * 2**30
    """memory that this process may allocate, models included, where the system limits that (Linux)"""

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < MIN_TOKEN:
            raise ConfigError(f"the token has {len(self.token)} characters, expected {MIN_TOKEN} or more")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ConfigError(
                "the token has letters that no header can have; expected those of ASCII that are printable"
            )
        if self.token is not None and self.token != self.token.strip():
            raise ConfigError("the token begins or ends with a space, which no header can have; leave it out")
        if self.token is None and self.host not in LOOPBACK:
            raise ConfigError(
                f"{self.host} is reachable from other machines, and anybody could use the service; set a token by "
                "--token or MOODFIELD_TOKEN, or leave --host out"
            )
        if len(set(self.models)) < len(self.models):
            raise ConfigError(f"{', '.join(self.models)}: a model is given twice; name each of them once")

    @property
    def max_requests(self) -> int:
        """Requests with files that are handled at once."""
        return self.jobs * self.queue
