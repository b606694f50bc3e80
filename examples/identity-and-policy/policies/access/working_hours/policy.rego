# METADATA
# title: Working hours
# description: |
#   Callers are let in at the times of `data.working_hours.shifts`: days of the week, and hours in UTC from
#   `from_hour` (included) to `to_hour` (excluded). Roles in `data.working_hours.always` come at any time.
#   A shift past midnight is two of them.
# custom:
#   reads: [admin, principal.roles, time.weekday, time.hour]
package lmg.policies.working_hours

default allow := false

allow if administers

administers if input.admin != null

allow if {
	some role in input.principal.roles
	role in data.working_hours.always
}

allow if {
	input.principal.roles # undefined, so refused, where there is no principal
	some shift in data.working_hours.shifts
	input.time.weekday in shift.days
	input.time.hour >= shift.from_hour
	input.time.hour < shift.to_hour
}

reasons contains "outside_working_hours" if not allow
