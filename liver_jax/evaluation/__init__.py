"""Parameters and a stream of slices -> scores."""
