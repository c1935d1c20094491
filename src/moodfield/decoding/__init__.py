"""Decoding of audio files: sources, containers and decoders.

Decoders trust what headers state: that a file has one stream of a certain length. Real files differ: streams follow
each other (radio recordings, `cat`), and lengths are missing or wrong (encoders that wrote to a pipe, recorders that
were killed). These modules read the structure of a file and pass each stream to its decoder without wrong lengths.
"""
