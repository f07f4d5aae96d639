"""From several embeddings, of images or sentences, to one: one file each, chosen by its name."""
