"""A first declaration for a log that somebody else wrote: looked at, guessed with reasons, written as Python."""
