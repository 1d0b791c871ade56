"""How are collections kept in one file, and made again from it?"""
