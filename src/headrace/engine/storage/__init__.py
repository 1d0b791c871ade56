"""How do bytes reach the disk, and how do we know that they are still the same bytes?"""
