"""HTTP: the protocol class at the front door, the application behind it, and the processes around both."""
