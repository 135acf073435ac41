"""The linear project with a net that one precision makes slow, so that a choice is certain."""
