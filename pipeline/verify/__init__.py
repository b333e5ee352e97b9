"""Looking at what is stored: is it whole, and is it what would be made now?"""
