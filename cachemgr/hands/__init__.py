"""Hands on drives: what changes the files of a cache, in a child process that knows the standard library alone.

`python -m cachemgr.hands` reads one order as a line of JSON and answers with lines of JSON; errands.py is its master.
"""
