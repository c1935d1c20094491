"""A person's music in one database: scan, search, similarity, playlists, exports."""
