"""What is done with a finished picture: compared, labelled, filmed; along which path?"""
