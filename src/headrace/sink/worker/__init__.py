"""How do many connectors live in one process, and how are they told over REST what to do?"""
