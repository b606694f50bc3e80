package lmg.policies.tools_allowed_test

import data.lmg.policies.tools_allowed

settings := {"everyone": ["search"], "roles": {"lead": ["deploy"]}}

asks(roles, tools) := {"admin": null, "principal": {"roles": roles}, "request": {"tools": tools}}

test_no_tool_is_allowed if {
	tools_allowed.allow with input as asks([], []) with data.tools_allowed as settings
}

test_everyone_has_the_common_tools if {
	tools_allowed.allow with input as asks([], ["search"]) with data.tools_allowed as settings
}

test_a_role_has_its_own_tools_as_well if {
	tools_allowed.allow with input as asks(["lead"], ["search", "deploy"]) with data.tools_allowed as settings
}

test_one_other_tool_is_one_too_many if {
	tools_allowed.reasons == {"tool_not_allowed"} with input as asks([], ["search", "deploy"])
		with data.tools_allowed as settings
}

test_a_request_that_was_not_read_is_refused if {
	unread := {"admin": null, "principal": {"roles": ["lead"]}, "request": null}
	not tools_allowed.allow with input as unread with data.tools_allowed as settings
}

test_nobody_is_refused if {
	nobody := {"admin": null, "principal": null, "request": {"tools": ["search"]}}
	not tools_allowed.allow with input as nobody with data.tools_allowed as settings
}

test_an_operators_call_offers_no_tools if {
	tools_allowed.allow with input as {"admin": {"method": "GET"}} with data.tools_allowed as settings
}
