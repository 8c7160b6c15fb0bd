"""How is a finished picture compared, labelled, written as a video, along which camera path?"""
