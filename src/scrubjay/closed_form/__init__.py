"""Metric learning in closed form: a metric solved from sufficient statistics of the features of a fixed trunk.

The statistics of several sessions are the sum of the sessions' statistics, so the solution after the last session
equals the solution on all images at once, in any order, without keeping an image.
"""
