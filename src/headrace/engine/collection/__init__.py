"""How does a write become durable and visible, one collection at a time?"""
