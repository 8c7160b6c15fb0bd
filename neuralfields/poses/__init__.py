"""Where were the photos taken?"""
