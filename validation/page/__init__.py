"""docs/accuracy.md, written by one command: text that people write, and tables and a picture of what was predicted."""
