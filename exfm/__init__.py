"""What can be said: the vocabulary of declarations."""
