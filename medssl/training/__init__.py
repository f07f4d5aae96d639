"""The loop around a method or a task; the only layer that knows Lightning."""
