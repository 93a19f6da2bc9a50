"""One file for each kind of system that is told what happens: Settings, and make(sink)."""
