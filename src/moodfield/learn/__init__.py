"""[learn] A new head on a model's embedding: a person's own tags, from a few labelled tracks."""
