"""Photographs, label maps, lists, databases: files of data, and what is done to them before a net."""
