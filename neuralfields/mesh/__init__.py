"""What is a triangle mesh, and how is it read, written, measured, extracted?"""
