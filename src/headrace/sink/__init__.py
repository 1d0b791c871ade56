"""How does a Kafka record become a point, exactly once?"""
