"""Scores of many runs → tables, tests, figures and one page (`muppet-zoo report`)."""
