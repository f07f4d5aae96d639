"""A trained model over whole volumes, and back to the input's own grid."""
