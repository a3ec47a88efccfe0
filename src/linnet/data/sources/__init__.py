"""Where documents come from: files here and far away, datasets of the hub, the built-in world."""
