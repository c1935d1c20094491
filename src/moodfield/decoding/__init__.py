"""Audio streams in container files: Ogg, MPEG audio, FLAC, WAV.

Decoders believe what headers say: that there is one stream, that it has so many samples. Files in the wild are
otherwise: streams follow each other (radio recordings, `cat`), lengths are missing or wrong (encoders that wrote to a
pipe, recorders that were killed). Here the structure of a file is read, and each stream is given to its decoder without
the lengths that would cut it.
"""
