"""To be written."""
HELP = "schema"
def arguments(parser): ...
def run(options): return 1
