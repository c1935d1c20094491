"""What was heard, and how, becomes something to keep.

In: taggings, or what a network sees. Out: files for people and programs.
Knows nothing of: torch, or how the tags came about.
"""
