"""The command line: one thin file a verb group, each of them parse → call → print."""
