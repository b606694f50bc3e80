"""Makes the catalogue's tables from installed packages; connects to nothing. The gateway never imports this."""
