"""One reader per file format; each gives a Raster, planes on a grid."""
