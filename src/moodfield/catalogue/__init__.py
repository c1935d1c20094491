"""A catalogue of millions of tracks: on one machine or a Ray cluster, from object storage to Parquet."""
