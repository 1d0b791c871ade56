"""Which row holds which point, and what does a reader see while a writer writes?"""
