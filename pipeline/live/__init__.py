"""A world that is shown what released students answer, and writes the log of it as time goes on."""
