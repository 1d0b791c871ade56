"""Which rows pass a filter?"""
