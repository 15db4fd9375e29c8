"""For people: the command line, the contact sheets, the demo. Stands on everything below; nothing stands on it."""
