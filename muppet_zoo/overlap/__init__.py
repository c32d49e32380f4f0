"""Which training rows have inputs in common with evaluation rows, and what a build does then."""
