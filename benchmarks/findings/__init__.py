"""The paper's findings on real rows: mirror with stand-ins, an unsupervised encoder, the studies."""
