"""Real clients, a file each."""
