"""Training of networks on a dataset, up to model folders."""
