"""From the rows of a dataset to a spec for it, proposed with reasons and decided by a person."""
