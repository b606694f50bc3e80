package lmg.authz_test

import data.lmg.authz

asks := {
	"admin": null,
	"candidates": [{"name": "a:small", "region": "eu"}],
	"principal": {"subject": "ann", "tenant": "acme", "roles": ["developer"]},
	"request": {"model": "small", "tools": ["search"]},
	"time": {"weekday": "monday", "hour": 9},
}

allowed(asked) if {
	authz.allow with input as asked
		with data.models_by_role.roles as {"developer": ["small"]}
		with data.data_residency as {"tenants": {"acme": ["eu"]}}
		with data.working_hours as {"always": [], "shifts": [{"days": ["monday"], "from_hour": 6, "to_hour": 18}]}
		with data.tools_allowed as {"everyone": ["search"], "roles": {}}
}

refused(asked) := reasons if {
	reasons := authz.reasons with input as asked
		with data.models_by_role.roles as {"developer": ["small"]}
		with data.data_residency as {"tenants": {"acme": ["eu"]}}
		with data.working_hours as {"always": [], "shifts": [{"days": ["monday"], "from_hour": 6, "to_hour": 18}]}
		with data.tools_allowed as {"everyone": ["search"], "roles": {}}
}

test_a_good_request_passes if allowed(asks)

test_it_is_bound_to_its_regions if {
	authz.obligations == {"regions": ["eu"]} with input as asks
		with data.data_residency as {"tenants": {"acme": ["eu"]}}
}

test_every_refusal_says_why if {
	wrong := {
		"admin": null,
		"candidates": [{"name": "b:large", "region": "us"}],
		"principal": {"subject": "ann", "tenant": "acme", "roles": ["developer"]},
		"request": {"model": "large", "tools": ["deploy"]},
		"time": {"weekday": "sunday", "hour": 9},
	}
	not allowed(wrong)
	refused(wrong) == {
		"model_not_allowed",
		"no_region_for_tenant",
		"outside_working_hours",
		"tool_not_allowed",
	}
}

test_a_policy_without_its_data_allows_nothing if {
	not authz.allow with input as asks with data.models_by_role as {}
}

test_nothing_is_allowed_without_an_input if {
	not authz.allow with input as {}
}
