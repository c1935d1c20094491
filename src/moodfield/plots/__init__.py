"""Figures of networks, runs and tags, drawn by matplotlib."""
