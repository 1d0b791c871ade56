"""Which change of which point does a record stand for, once it is converted?"""
