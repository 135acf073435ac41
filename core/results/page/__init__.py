"""The page of results: data.py gathers what it shows, looks.py what single runs predicted."""
