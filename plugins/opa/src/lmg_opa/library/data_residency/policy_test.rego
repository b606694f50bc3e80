package lmg.policies.data_residency_test

import data.lmg.policies.data_residency

settings := {"tenants": {"acme": ["eu"], "nowhere": []}, "default": ["us"]}

strict := {"tenants": {"acme": ["eu"]}}

everywhere := [{"name": "a:m", "region": "eu"}, {"name": "b:m", "region": "us"}]

asks(tenant, candidates) := {"admin": null, "principal": {"tenant": tenant}, "candidates": candidates}

test_a_tenant_stays_in_its_regions if {
	data_residency.allow with input as asks("acme", everywhere) with data.data_residency as settings
	data_residency.obligations == {"regions": ["eu"]} with input as asks("acme", everywhere)
		with data.data_residency as settings
}

test_a_request_is_bound_where_no_admin_is_shown_at_all if {
	asked := {"principal": {"tenant": "acme"}, "candidates": everywhere}
	data_residency.allow with input as asked with data.data_residency as settings
	data_residency.obligations == {"regions": ["eu"]} with input as asked with data.data_residency as settings
}

test_others_have_the_default if {
	data_residency.obligations.regions == ["us"] with input as asks("globex", everywhere)
		with data.data_residency as settings
}

test_without_a_default_others_are_refused if {
	not data_residency.allow with input as asks("globex", everywhere) with data.data_residency as strict
}

test_no_model_in_the_region_is_refused if {
	elsewhere := [{"name": "b:m", "region": "us"}]
	data_residency.reasons == {"no_region_for_tenant"} with input as asks("acme", elsewhere)
		with data.data_residency as settings
}

test_a_tenant_with_no_region_has_no_default if {
	not data_residency.allow with input as asks("nowhere", everywhere) with data.data_residency as settings
}

test_nobody_is_refused if {
	nobody := {"admin": null, "principal": null, "candidates": everywhere}
	not data_residency.allow with input as nobody with data.data_residency as settings
}

test_an_operators_call_goes_to_no_region if {
	data_residency.allow with input as {"admin": {"method": "GET"}} with data.data_residency as settings
}
