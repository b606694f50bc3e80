"""To be written."""
HELP = "check"
def arguments(parser): ...
def run(options): return 1
