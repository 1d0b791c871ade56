"""What every front can do with the store: one function per call, one place for names and rules."""
