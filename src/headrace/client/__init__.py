"""How does a program use the store without a server?"""
