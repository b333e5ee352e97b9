"""What people look at: the page, the terminal, the plots."""
