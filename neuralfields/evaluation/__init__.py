"""How good is it, by which protocol?"""
