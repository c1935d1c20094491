"""Taggings become something to keep.

In: what a tagger said. Out: files for people and programs.
Knows nothing of: audio, networks, or how the tags came about.
"""
