"""How a pretrained network is adapted to a task: which weights train, and when; one per file."""
