"""How does a filter find its rows without looking at every payload?"""
