"""A prediction as one page to look at, with a viewer inside; nothing is fetched."""
