"""One file for each word after /incident or /inc: USAGE, run(context, text), and form(asked, text) where it opens one.

The first line of a file's docstring is its line in `help`. ALIASES are other words for the same.
"""
