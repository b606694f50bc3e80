package lmg.policies.models_by_role_test

import data.lmg.policies.models_by_role

roles := {"developer": ["small"], "lead": ["*"]}

asks(roles_held, model) := {
	"admin": null,
	"principal": {"roles": roles_held},
	"request": {"model": model},
}

test_a_role_has_its_models if {
	models_by_role.allow with input as asks(["developer"], "small") with data.models_by_role.roles as roles
}

test_a_role_has_no_other_models if {
	not models_by_role.allow with input as asks(["developer"], "large") with data.models_by_role.roles as roles
}

test_a_star_is_every_model if {
	models_by_role.allow with input as asks(["guest", "lead"], "large") with data.models_by_role.roles as roles
}

test_a_callers_star_is_a_name_like_any_other if {
	not models_by_role.allow with input as asks(["developer"], "*") with data.models_by_role.roles as roles
}

test_without_a_role_there_is_no_model if {
	not models_by_role.allow with input as asks([], "small") with data.models_by_role.roles as roles
}

test_nobody_is_refused if {
	nobody := {"admin": null, "principal": null, "request": {"model": "small"}}
	models_by_role.reasons == {"model_not_allowed"} with input as nobody with data.models_by_role.roles as roles
}

test_an_operators_call_asks_for_no_model if {
	models_by_role.allow with input as {"admin": {"method": "GET"}, "principal": {"roles": []}}
}
