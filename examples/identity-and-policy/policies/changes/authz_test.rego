package lmg.authz_test

import data.lmg.authz

calls(approvers) := {
	"principal": {"subject": "ann"},
	"admin": {"method": "POST", "component": "breaker", "approvers": approvers},
}

test_a_change_waits_for_somebody_else if {
	not authz.allow with input as calls([]) with data.four_eyes.alone as []
	authz.reasons == {"approval_required"} with input as calls([]) with data.four_eyes.alone as []
}

test_a_change_that_somebody_else_approved_is_made if {
	authz.allow with input as calls(["bob"]) with data.four_eyes.alone as []
}

test_a_models_request_does_not_pass_here if {
	authz.reasons == {"not_an_admin_call"} with input as {"admin": null, "principal": {"subject": "ann"}}
}

test_nothing_is_allowed_without_an_input if {
	not authz.allow with input as {}
}
