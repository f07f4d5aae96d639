"""Images and results that leave the house: written without identifiers, and searched for them."""
