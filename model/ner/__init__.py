"""Named entities: which words of a sentence name a person, a place, an organisation ...?

`reading.py` reads the files, `data_loader.py` makes batches of them, `net.py` is the tagger.
"""
