"""What low bits do to training: twins of one network at every width, measured. See docs/STUDY.md."""
