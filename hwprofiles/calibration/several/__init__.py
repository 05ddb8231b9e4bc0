"""What several GPUs of one host take together: messages by SMs, expert-parallel layers, pipelines, sharded models (cli)."""
