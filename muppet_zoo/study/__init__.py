"""Studies: a question about pre-finetuning as arms, run on a setting, resumed, and reported."""
