package lmg.policies.working_hours_test

import data.lmg.policies.working_hours

settings := {
	"always": ["on-call"],
	"shifts": [{"days": ["monday", "tuesday"], "from_hour": 6, "to_hour": 18}],
}

at(weekday, hour, roles) := {
	"admin": null,
	"principal": {"roles": roles},
	"time": {"weekday": weekday, "hour": hour},
}

test_open_from_its_first_hour if {
	working_hours.allow with input as at("monday", 6, []) with data.working_hours as settings
}

test_closed_the_hour_before if {
	not working_hours.allow with input as at("monday", 5, []) with data.working_hours as settings
}

test_open_in_its_last_hour if {
	working_hours.allow with input as at("tuesday", 17, []) with data.working_hours as settings
}

test_closed_when_it_ends if {
	working_hours.reasons == {"outside_working_hours"} with input as at("tuesday", 18, [])
		with data.working_hours as settings
}

test_closed_on_other_days if {
	not working_hours.allow with input as at("sunday", 12, []) with data.working_hours as settings
}

test_who_is_on_call_comes_at_any_time if {
	working_hours.allow with input as at("sunday", 3, ["on-call"]) with data.working_hours as settings
}

test_nobody_is_refused if {
	nobody := {"admin": null, "principal": null, "time": {"weekday": "monday", "hour": 12}}
	not working_hours.allow with input as nobody with data.working_hours as settings
}

test_operators_work_at_night if {
	working_hours.allow with input as {"admin": {"method": "POST"}} with data.working_hours as settings
}
