"""What does a command do?"""
