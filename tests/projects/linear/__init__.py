"""Pictures with a linear net: no batch norm, no dropout, no augmentation, fast."""
