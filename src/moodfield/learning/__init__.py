"""Learning: a new head on a model's embedding, for tags of one's own, from some labelled tracks."""
