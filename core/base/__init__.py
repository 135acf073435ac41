"""What everything else stands on: errors, files, params; no torch."""
