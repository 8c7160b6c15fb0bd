"""Which signal is no scene: image, shape, video, sound?"""
