"""Reading a log, and simulating one."""
