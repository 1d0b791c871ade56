"""How are payloads kept, addressed and changed?"""
