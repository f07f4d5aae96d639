"""What a model of images and reports can do without further training, and whether to trust it.

Suffixes: N studies, M those of a gallery, P prompts, X descriptors, D of the common space.
"""
