"""What can be typed after `headrace`?"""
