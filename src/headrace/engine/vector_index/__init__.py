"""How are the nearest vectors found without looking at every one?"""
