"""What users see of an outage, with and without a breaker: a simulation in virtual time."""
