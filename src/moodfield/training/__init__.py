"""From a dataset to models.

In: tracks with truth, and a recipe. Out: runs, and model folders.
Knows nothing of: who uses the models.
"""
