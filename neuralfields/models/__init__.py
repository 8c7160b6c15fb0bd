"""What is a fitted model, and its `.nf` file?"""
