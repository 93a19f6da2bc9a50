"""The bot killed at every point where it touches the world, and an oracle outside it that says what came of that.

`python -m tests.torture --help`. Slow; `make torture` runs it, CI a short form of it.
"""
