"""What the worker processes do: one file a kind of work, functions of picklable arguments with a picklable value."""
