"""How is a field rendered?"""
