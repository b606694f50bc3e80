package lmg.authz_test

import data.lmg.authz

settings := {"refuse_from": 0.8, "on_prem_from": 0.4, "max_output_tokens": 50}

test_a_low_risk_passes_unbound if {
	authz.allow with input as {"admin": null, "risk": 0.1} with data.risk_bounds as settings
	authz.obligations == {} with input as {"admin": null, "risk": 0.1} with data.risk_bounds as settings
}

test_a_high_risk_passes_bound if {
	authz.allow with input as {"admin": null, "risk": 0.5} with data.risk_bounds as settings
	authz.obligations.on_prem with input as {"admin": null, "risk": 0.5} with data.risk_bounds as settings
}

test_the_highest_does_not_pass if {
	authz.reasons == {"risk_too_high"} with input as {"admin": null, "risk": 0.9} with data.risk_bounds as settings
}

test_what_nobody_measured_passes_bound if {
	authz.allow with input as {} with data.risk_bounds as settings
	authz.obligations.on_prem with input as {} with data.risk_bounds as settings
}
