"""Folders of runs in, tables and one page out."""
