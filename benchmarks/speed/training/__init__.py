"""What a training step costs, against bare loops and against what people would write instead.

inputs.py         ten real classification tasks, built; engines of ours in MiniLM's shape
bare_loops.py     the limit, and a loop that mixes tasks naively
hf_trainer.py     transformers.Trainer with one head a task
step.py           their tokens per second
overheads.py      heads, checkpoints, evaluation
processes.py      DeepSpeed on one process, two processes

Each of the last three is a program: `python -m benchmarks.speed.training.step --mirror DIR`.
"""
