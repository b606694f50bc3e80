package lmg.policies.classified_on_prem_test

import data.lmg.policies.classified_on_prem

settings := {"public": ["open"], "clearances": {"closed": ["closed", "top"], "top": ["top"]}}

asks(attributes) := {"admin": null, "principal": {"attributes": attributes}}

test_public_data_goes_anywhere if {
	classified_on_prem.allow with input as asks({"data_class": "open"}) with data.classified_on_prem as settings
	classified_on_prem.obligations == {} with input as asks({"data_class": "open"})
		with data.classified_on_prem as settings
}

test_classified_data_stays_on_premises if {
	cleared := asks({"data_class": "closed", "clearance": "top"})
	classified_on_prem.allow with input as cleared with data.classified_on_prem as settings
	classified_on_prem.obligations == {"on_prem": true, "tags": {"classified": "true"}} with input as cleared
		with data.classified_on_prem as settings
}

test_a_request_is_bound_where_no_admin_is_shown_at_all if {
	asked := {"principal": {"attributes": {"data_class": "top"}}}
	classified_on_prem.obligations.on_prem with input as asked with data.classified_on_prem as settings
}

test_a_lower_clearance_is_refused if {
	classified_on_prem.reasons == {"clearance_required"}
		with input as asks({"data_class": "top", "clearance": "closed"})
		with data.classified_on_prem as settings
}

test_what_is_not_known_to_be_public_is_classified if {
	not classified_on_prem.allow with input as asks({}) with data.classified_on_prem as settings
	classified_on_prem.obligations.on_prem with input as asks({}) with data.classified_on_prem as settings
}

test_a_list_that_holds_a_public_class_is_not_public if {
	mixed := asks({"data_class": ["open", "top"]})
	not classified_on_prem.allow with input as mixed with data.classified_on_prem as settings
}

test_nobody_is_refused if {
	not classified_on_prem.allow with input as {"admin": null, "principal": null}
		with data.classified_on_prem as settings
}

test_an_operators_call_is_bound_to_nothing if {
	classified_on_prem.allow with input as {"admin": {"method": "GET"}} with data.classified_on_prem as settings
	classified_on_prem.obligations == {} with input as {"admin": {"method": "GET"}}
		with data.classified_on_prem as settings
}
