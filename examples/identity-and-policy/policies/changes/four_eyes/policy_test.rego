package lmg.policies.four_eyes_test

import data.lmg.policies.four_eyes

calls(method, component, approvers) := {
	"principal": {"subject": "ann"},
	"admin": {"method": method, "component": component, "approvers": approvers},
}

test_a_change_waits_for_a_second_person if {
	four_eyes.reasons == {"approval_required"} with input as calls("POST", "auth_keys", [])
		with data.four_eyes.alone as []
}

test_a_second_persons_word_is_enough if {
	four_eyes.allow with input as calls("POST", "auth_keys", ["bob"]) with data.four_eyes.alone as []
}

test_ones_own_word_is_not if {
	not four_eyes.allow with input as calls("POST", "auth_keys", ["ann"]) with data.four_eyes.alone as []
}

test_reading_needs_nobody if {
	four_eyes.allow with input as calls("GET", "auth_keys", []) with data.four_eyes.alone as []
}

test_approving_needs_nobody if {
	four_eyes.allow with input as calls("POST", "approvals", []) with data.four_eyes.alone as []
}

test_some_components_are_changed_alone if {
	four_eyes.allow with input as calls("DELETE", "cache", []) with data.four_eyes.alone as ["cache"]
}

test_a_models_request_needs_nobody if {
	four_eyes.allow with input as {"admin": null, "principal": {"subject": "ann"}}
	four_eyes.allow with input as {"principal": {"subject": "ann"}}
}

test_nobody_is_refused if {
	not four_eyes.allow with input as {"principal": null}
}
