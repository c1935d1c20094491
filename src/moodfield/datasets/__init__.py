"""Datasets: index files, download, validation, duplicates, statistics."""
