"""Is what is stored still what was written, and what can be kept if it is not?"""
