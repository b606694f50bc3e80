"""To be written."""
HELP = "plugins"
def arguments(parser): ...
def run(options): return 1
