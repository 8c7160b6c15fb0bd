"""How does a field become a picture?"""
