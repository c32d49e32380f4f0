"""The paper's findings on real rows: stand-ins, an encoder without labels."""
