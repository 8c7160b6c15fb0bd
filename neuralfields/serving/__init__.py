"""How does a browser see it?"""
