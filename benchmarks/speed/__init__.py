"""How fast muppet-zoo is, against what people would use instead and against the limit.

Each script measures one or a few rows of the table and writes each to a file of its own, so that a
row can be measured again alone; `table` collates them.
"""
