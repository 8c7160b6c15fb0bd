"""How does one field become another?"""
