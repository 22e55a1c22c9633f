"""Time packed networks against other inference engines, each in a process of its own."""
