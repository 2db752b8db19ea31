"""Pure scoring of arrays, knowing no model and no file."""
