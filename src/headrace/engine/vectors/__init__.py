"""How are vectors kept, and how is a query scored against them?"""
