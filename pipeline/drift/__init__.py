"""Has what models read, or how well they predict, changed since what serves was trained?"""
