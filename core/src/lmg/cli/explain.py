"""To be written."""
HELP = "explain"
def arguments(parser): ...
def run(options): return 1
