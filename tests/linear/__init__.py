"""Hand signs with a linear net: no batch norm, no dropout, no augmentation, fast."""
