"""From raw scans on disk to a stream of slices."""
