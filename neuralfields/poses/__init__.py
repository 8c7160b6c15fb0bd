"""Where were the photos taken? Camera poses by structure from motion (COLMAP)."""
