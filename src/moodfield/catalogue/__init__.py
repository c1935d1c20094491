"""A catalogue of millions of tracks: on one machine or a Ray cluster, from files or object storage to Parquet."""
