"""Killing whoever works on models, at random and at every system call, and looking whether anything was lost.

script/torture                 200 rounds of kills, then every point of the sweep
script/torture --rounds 20 --points 40
"""
