"""How does the main job look on real data, from an empty machine, in one command?"""
