"""Upkeep: what is to be made of what is stored, and why: for the automation, for a plan, for the command line."""
