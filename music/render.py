"""Turn a score into audio: LilyPond or MuseScore writes MIDI, FluidSynth plays it.

Needs the Debian packages of `PROGRAMS` and `SOUNDFONTS`. The same score and the same versions of them give the same
audio. A LilyPond score is a program: play only scores that you trust. Programs get no environment but `PATH`, a
temporary `HOME`, a locale and no display.

    .venv/bin/python music/render.py SCORE TARGET.flac
"""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from faults import ARCHIVE_ERRORS, MusicError

VERSION = 1
"""of the audio; another one renders all scores again"""
PROGRAMS = {
    "convert-ly": "lilypond",
    "lilypond": "lilypond",
    "musescore3": "musescore3",
    "fluidsynth": "fluidsynth",
    "ffmpeg": "ffmpeg",
}
"""program → its Debian package"""
SOUNDFONTS = {
    "/usr/share/sounds/sf2/FluidR3_GM.sf2": "fluid-soundfont-gm",
    "/usr/share/sounds/sf3/MuseScore_General.sf3": "musescore-general-soundfont",
}
"""soundfont → its Debian package; the score's digest chooses one of them"""
TIMEOUT_SECONDS = 900
"""after which a program and its children are killed"""
ROOM_SIZES = (0.2, 0.4, 0.6, 0.8)
SAMPLE_RATE = 44_100
FRAME_BYTES = 8  # stereo float32
LONGEST_SECONDS = 300
FADE_SECONDS = 4
PEAK = 0.89  # of full scale, -1 dBFS
DEFAULT_TEMPO = 88  # quarters a minute, where a LilyPond score has no metronome mark

# A LilyPond score often names its instruments only in the header; LilyPond then plays a piano. The first match counts.
INSTRUMENTS = (
    ("guitar|lute|vihuela|theorbo", "acoustic guitar (nylon)"),
    ("mandolin", "acoustic guitar (steel)"),
    ("koto", "koto"),
    ("shamisen", "shamisen"),
    ("harpsichord|clavichord|clavecin|cembalo", "harpsichord"),
    ("piano|klavier|clavier", "acoustic grand"),
    ("organ|harmonium", "church organ"),
    ("glockenspiel|bell", "glockenspiel"),
    ("xylophone", "xylophone"),
    ("trumpet", "trumpet"),
    ("trombone", "trombone"),
    ("brass", "brass section"),
    ("quartet|strings|ensemble|violins|orchestra", "string ensemble 1"),
    ("violin", "violin"),
    ("viola", "viola"),
    ("cello", "cello"),
    ("flute|recorder", "flute"),
    ("oboe", "oboe"),
    ("clarinet", "clarinet"),
    ("bassoon", "bassoon"),
    ("choir|voice|satb", "choir aahs"),
)

# General MIDI has no singers who pronounce words: in songs with piano a solo instrument plays the voice.
SOLO_PROGRAMS = (41, 43, 69, 72, 74)  # violin, cello, oboe, clarinet, flute, counted from 1
VOICE_PROGRAM = re.compile(r"<midi-program>5[345]</midi-program>")


def missing_packages() -> list[str]:
    """Debian packages with a program or a soundfont that is not here."""
    programs = {package for program, package in PROGRAMS.items() if not shutil.which(program)}
    return sorted(programs | {package for path, package in SOUNDFONTS.items() if not Path(path).is_file()})


def render(score: Path, target: Path) -> None:
    """Play a score and write it as FLAC: 44.1 kHz, stereo, 16 bit, at most five minutes.

    Args:
        score: `.ly` (LilyPond), `.mscz`, `.mxl`, `.musicxml` (MuseScore) or `.mid`.
        target: the file to write.

    Raises:
        MusicError: a program or a soundfont is missing, a program failed, or the score is damaged or has no notes.
    """
    digest = hashlib.sha256(score.read_bytes()).digest()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording = folder / "recording.f32"
        play(write_midi(score, folder, digest), recording, digest)
        is_cut = cut(recording)
        samples = np.fromfile(recording, "<f4")
        peak = float(max(samples.max(initial=0), -samples.min(initial=0)))
        if peak == 0:
            raise MusicError(f"{score} makes no sound; a score with notes is expected")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_flac(recording, PEAK / peak, target, is_cut=is_cut)


def write_midi(score: Path, folder: Path, digest: bytes) -> Path:
    """Return a MIDI file of a score, made in `folder` unless the score is one."""
    match score.suffix:
        case ".mid" | ".midi":
            return score
        case ".ly":
            return lilypond_midi(score, folder)
        case ".mxl":
            return musescore_midi(replace_singers(score, folder, digest), folder)
        case ".mscz" | ".musicxml":
            return musescore_midi(score, folder)
    raise MusicError(f"{score} has no suffix of a score; .ly, .mscz, .mxl, .musicxml or .mid is expected")


def lilypond_midi(score: Path, folder: Path) -> Path:
    """Convert to the installed LilyPond's syntax, set the header's instrument, and return the largest MIDI file."""
    converted = run("convert-ly", "--no-version", score, home=folder).decode("utf-8", "replace")
    converted = re.sub(r'\\version\s*"[^"]*"', "", converted)
    header = re.search(r'mutopiainstrument\s*=\s*"([^"]*)"', converted)
    named = header[1].lower() if header else ""
    instrument = next((sound for words, sound in INSTRUMENTS if re.search(words, named)), "acoustic grand")
    default = f'\\midi {{ \\tempo 4 = {DEFAULT_TEMPO} \\context {{ \\Score midiInstrument = #"{instrument}" }} }}\n'
    copy = folder / "score.ly"
    copy.write_text('\\version "2.24.0"\n' + default + converted, "utf-8")
    options = ["--loglevel=ERROR", "-dno-print-pages", "-dmidi-extension=mid", f"--output={folder / 'score'}"]
    run("lilypond", *options, copy, home=folder)
    files = sorted(folder.glob("*.mid"), key=lambda path: (-path.stat().st_size, path.name))
    if not files:
        raise MusicError(f"LilyPond wrote no MIDI for {score}; a \\midi block is expected")
    return files[0]


def musescore_midi(score: Path, folder: Path) -> Path:
    """Return MuseScore's MIDI of a score."""
    midi = folder / "score.mid"
    run("musescore3", "-o", midi, score, home=folder)
    return midi


def replace_singers(score: Path, folder: Path, digest: bytes) -> Path:
    """Return a compressed MusicXML file's score, with one solo instrument for all voices."""
    try:
        with zipfile.ZipFile(score) as archive:
            names = [name for name in archive.namelist() if name.endswith("xml") and not name.startswith("META-INF")]
            if not names:
                raise MusicError(f"{score} has no file of MusicXML; one is expected in an .mxl")
            text = archive.read(names[0]).decode("utf-8")
    except ARCHIVE_ERRORS as error:
        raise MusicError(f"{score} is damaged: {error}") from error
    program = SOLO_PROGRAMS[digest[2] % len(SOLO_PROGRAMS)]
    copy = folder / "score.musicxml"
    copy.write_text(VOICE_PROGRAM.sub(f"<midi-program>{program}</midi-program>", text), "utf-8")
    return copy


def play(midi: Path, recording: Path, digest: bytes) -> None:
    """Synthesize MIDI as raw stereo float32. The score's digest chooses soundfont and room, so that these vary."""
    soundfont = list(SOUNDFONTS)[digest[0] % len(SOUNDFONTS)]
    if not Path(soundfont).is_file():  # FluidSynth would play silence
        raise MusicError(f"the soundfont {soundfont} is missing: apt-get install {SOUNDFONTS[soundfont]}")
    room = ROOM_SIZES[digest[1] % len(ROOM_SIZES)]
    settings = ["-o", f"synth.reverb.room-size={room}", "-o", "synth.chorus.active=0", "-o", "synth.polyphony=512"]
    output: list[str | Path] = ["-T", "raw", "-O", "float", "-r", str(SAMPLE_RATE), "-F", recording]
    run("fluidsynth", "-q", "-n", "-i", *settings, *output, soundfont, midi, home=recording.parent)


def cut(recording: Path) -> bool:
    """Cut raw stereo float32 that is longer than `LONGEST_SECONDS`; returns whether it was."""
    longest = LONGEST_SECONDS * SAMPLE_RATE * FRAME_BYTES
    is_longer = recording.stat().st_size > longest
    if is_longer:
        os.truncate(recording, longest)
    return is_longer


def write_flac(recording: Path, gain: float, target: Path, *, is_cut: bool) -> None:
    """Scale raw stereo float32, fade it out if it was cut, and write 16-bit FLAC."""
    effects = f"volume={gain:.6f}"
    if is_cut:
        effects += f",afade=t=out:st={LONGEST_SECONDS - FADE_SECONDS}:d={FADE_SECONDS}"
    source: list[str | Path] = ["-f", "f32le", "-ar", str(SAMPLE_RATE), "-ac", "2", "-i", recording]
    output: list[str | Path] = ["-af", effects, "-sample_fmt", "s16", "-fflags", "+bitexact", "-f", "flac", target]
    run("ffmpeg", "-v", "error", "-y", *source, *output, home=recording.parent)


def run(*command: str | Path, home: Path) -> bytes:
    """Run a program in a minimal environment and return its standard output; after a timeout its children end, too.

    Raises:
        MusicError: The program is not installed, fails, or takes too long.
    """
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home)}
    environment |= {"LC_ALL": "C.UTF-8", "QT_QPA_PLATFORM": "offscreen"}
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    try:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=null,
            stdout=pipe,
            stderr=pipe,
            env=environment,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        package = PROGRAMS.get(str(command[0]), command[0])
        raise MusicError(f"{command[0]} is not installed: apt-get install {package}") from error
    with process:
        try:
            output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        except BaseException as error:  # Ctrl-C does not reach another session
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise MusicError(f"{command[0]} took more than {TIMEOUT_SECONDS} s") from error
            raise
    if process.returncode != 0:
        raise MusicError(f"{command[0]} failed: {errors.decode('utf-8', 'replace').strip()[-500:]}")
    return output


if __name__ == "__main__":
    render(Path(sys.argv[1]), Path(sys.argv[2]))
