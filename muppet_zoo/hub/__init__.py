"""The Hugging Face hub: rows at a fixed commit, the lock, what the hub states, what goes wrong."""
