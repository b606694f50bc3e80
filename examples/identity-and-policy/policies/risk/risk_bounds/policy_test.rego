package lmg.policies.risk_bounds_test

import data.lmg.policies.risk_bounds

settings := {"refuse_from": 0.8, "on_prem_from": 0.4, "max_output_tokens": 50}

bound := {"on_prem": true, "max_output_tokens": 50}

test_a_low_risk_is_bound_to_nothing if {
	risk_bounds.allow with input as {"admin": null, "risk": 0.39} with data.risk_bounds as settings
	risk_bounds.obligations == {} with input as {"admin": null, "risk": 0.39} with data.risk_bounds as settings
}

test_a_high_risk_stays_on_premises if {
	risk_bounds.allow with input as {"admin": null, "risk": 0.4} with data.risk_bounds as settings
	risk_bounds.obligations == bound with input as {"admin": null, "risk": 0.4} with data.risk_bounds as settings
}

test_the_highest_risk_is_refused if {
	risk_bounds.reasons == {"risk_too_high"} with input as {"admin": null, "risk": 0.8}
		with data.risk_bounds as settings
}

test_an_unmeasured_risk_is_a_high_one if {
	risk_bounds.allow with input as {"admin": null, "risk": null} with data.risk_bounds as settings
	risk_bounds.obligations == bound with input as {"admin": null, "risk": null} with data.risk_bounds as settings
}

test_a_risk_that_is_no_number_is_refused if {
	not risk_bounds.allow with input as {"admin": null, "risk": "0.1"} with data.risk_bounds as settings
	not risk_bounds.allow with input as {"admin": null, "risk": false} with data.risk_bounds as settings
}

test_a_risk_that_is_not_shown_was_not_measured if {
	risk_bounds.allow with input as {} with data.risk_bounds as settings
	risk_bounds.obligations == bound with input as {} with data.risk_bounds as settings
}

test_an_operators_call_carries_no_risk if {
	risk_bounds.allow with input as {"admin": {"method": "GET"}, "risk": null} with data.risk_bounds as settings
	risk_bounds.obligations == {} with input as {"admin": {"method": "GET"}, "risk": null}
		with data.risk_bounds as settings
}
