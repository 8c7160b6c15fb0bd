"""Native ops: one file each with its equation, the public function, and the plain-torch reference of its tests."""
