"""How fast is Headrace beside Qdrant's own engine, in one run, at which recall?"""
