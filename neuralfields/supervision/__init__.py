"""What supervises a fit besides colour: camera poses, exposure, transients, sparse depth?"""
