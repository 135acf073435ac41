"""Small tasks of many kinds; the param `kind` says which."""
