"""How does a query become scored points?"""
