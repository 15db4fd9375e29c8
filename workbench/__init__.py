"""For people: the command line, contact sheets, the demo. It may use every floor; nothing may use it."""
