"""Projects with one fault each, which the param `fault` names; check.py must find every one."""
