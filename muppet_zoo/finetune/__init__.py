"""Fine-tuning encoders on many targets: the plan, its cells, and the results that remain."""
