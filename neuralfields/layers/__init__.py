"""What are fields built of?"""
