"""Damaged and malicious files against every loader, in child processes that may do nothing but read their folder."""
