"""Visual wake word: does the wake digit appear in a cluttered image?"""
