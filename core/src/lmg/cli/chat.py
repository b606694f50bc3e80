"""To be written."""
HELP = "chat"
def arguments(parser): ...
def run(options): return 1
