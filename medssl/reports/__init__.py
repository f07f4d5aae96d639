"""Reports: read, understood, without identifiers, joined to the images they speak of."""
