"""One script per contender. Each does the work once, in a process of its own, and prints one line
of JSON: `seconds` of the work without imports, and what else there is to say. The scripts of peers
run in the peers' environments and import nothing of muppet_zoo.
"""
