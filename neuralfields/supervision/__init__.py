"""What do photos teach besides colour: poses, exposure, transients, depth?"""
