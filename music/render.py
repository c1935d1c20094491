"""Turn a score into audio: LilyPond or MuseScore writes MIDI, FluidSynth plays it.

Needs the Debian packages lilypond, musescore3, fluidsynth, fluid-soundfont-gm, musescore-general-soundfont and ffmpeg.
The same score and the same versions of them give the same audio. A LilyPond score is a program: play only scores that
you trust.

    python3 music/render.py SCORE TARGET.flac
"""

import array
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SOUNDFONTS = (
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",
    "/usr/share/sounds/sf3/MuseScore_General.sf3",
)
ROOM_SIZES = (0.2, 0.4, 0.6, 0.8)
SAMPLE_RATE = 44_100
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


def render(score: Path, target: Path) -> None:
    """Play a score and write it as FLAC: 44.1 kHz, stereo, 16 bit, at most five minutes.

    Args:
        score: `.ly` (LilyPond), `.mscz`, `.mxl`, `.musicxml` (MuseScore) or `.mid`.
        target: the file to write.

    Raises:
        RuntimeError: a program failed, or the score contains no notes.
    """
    digest = hashlib.sha256(score.read_bytes()).digest()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording = folder / "recording.f32"
        play(write_midi(score, folder, digest), recording, digest)
        samples = array.array("f", recording.read_bytes())
        peak = max(max(samples, default=0.0), -min(samples, default=0.0))
        if peak == 0:
            raise RuntimeError(f"{score} makes no sound; a score with notes is expected")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_flac(recording, len(samples) / 2 / SAMPLE_RATE, PEAK / peak, target)


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
    raise RuntimeError(f"{score} has no suffix of a score; .ly, .mscz, .mxl, .musicxml or .mid is expected")


def lilypond_midi(score: Path, folder: Path) -> Path:
    """Convert to the installed LilyPond's syntax, set the header's instrument, and return the largest MIDI file."""
    converted = run("convert-ly", "--no-version", score).decode("utf-8", "replace")
    converted = re.sub(r'\\version\s*"[^"]*"', "", converted)
    header = re.search(r'mutopiainstrument\s*=\s*"([^"]*)"', converted)
    named = header[1].lower() if header else ""
    instrument = next((sound for words, sound in INSTRUMENTS if re.search(words, named)), "acoustic grand")
    default = f'\\midi {{ \\tempo 4 = {DEFAULT_TEMPO} \\context {{ \\Score midiInstrument = #"{instrument}" }} }}\n'
    copy = folder / "score.ly"
    copy.write_text('\\version "2.24.0"\n' + default + converted, "utf-8")
    run(
        "lilypond", "--loglevel=ERROR", "-dno-print-pages", "-dmidi-extension=mid", f"--output={folder / 'score'}", copy
    )
    files = sorted(folder.glob("*.mid"), key=lambda path: (-path.stat().st_size, path.name))
    if not files:
        raise RuntimeError(f"LilyPond wrote no MIDI for {score}; a \\midi block is expected")
    return files[0]


def musescore_midi(score: Path, folder: Path) -> Path:
    """Return MuseScore's MIDI of a score."""
    midi = folder / "score.mid"
    run("musescore3", "-o", midi, score)
    return midi


def replace_singers(score: Path, folder: Path, digest: bytes) -> Path:
    """Return a compressed MusicXML file's score, with one solo instrument for all voices."""
    with zipfile.ZipFile(score) as archive:
        names = [name for name in archive.namelist() if name.endswith("xml") and not name.startswith("META-INF")]
        text = archive.read(names[0]).decode("utf-8")
    program = SOLO_PROGRAMS[digest[2] % len(SOLO_PROGRAMS)]
    copy = folder / "score.musicxml"
    copy.write_text(VOICE_PROGRAM.sub(f"<midi-program>{program}</midi-program>", text), "utf-8")
    return copy


def play(midi: Path, recording: Path, digest: bytes) -> None:
    """Synthesize MIDI as raw stereo float32. The score's digest chooses soundfont and room, so that these vary."""
    soundfont = SOUNDFONTS[digest[0] % len(SOUNDFONTS)]
    room = ROOM_SIZES[digest[1] % len(ROOM_SIZES)]
    settings = ["-o", f"synth.reverb.room-size={room}", "-o", "synth.chorus.active=0", "-o", "synth.polyphony=512"]
    output: list[str | Path] = ["-T", "raw", "-O", "float", "-r", str(SAMPLE_RATE), "-F", recording]
    run("fluidsynth", "-q", "-n", "-i", *settings, *output, soundfont, midi)


def write_flac(recording: Path, seconds: float, gain: float, target: Path) -> None:
    """Scale raw stereo float32, fade out and cut what is longer than `LONGEST_SECONDS`, and write 16-bit FLAC."""
    effects = f"volume={gain:.6f}"
    if seconds > LONGEST_SECONDS:
        effects += f",afade=t=out:st={LONGEST_SECONDS - FADE_SECONDS}:d={FADE_SECONDS}"
    source: list[str | Path] = ["-f", "f32le", "-ar", str(SAMPLE_RATE), "-ac", "2", "-i", recording]
    output: list[str | Path] = [
        "-af",
        effects,
        "-t",
        str(LONGEST_SECONDS),
        "-sample_fmt",
        "s16",
        "-fflags",
        "+bitexact",
        target,
    ]
    run("ffmpeg", "-v", "error", "-y", *source, *output)


def run(*command: str | Path) -> bytes:
    """Run a program without a display and return its standard output; its errors become a RuntimeError."""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, env=environment, timeout=900)
    except FileNotFoundError as error:
        raise RuntimeError(f"{command[0]} is not installed; see the packages at the top of {__file__}") from error
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{command[0]} took more than 900 s") from error
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.decode('utf-8', 'replace').strip()[-500:]}")
    return done.stdout


if __name__ == "__main__":
    render(Path(sys.argv[1]), Path(sys.argv[2]))
