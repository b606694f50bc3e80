# METADATA
# title: Allowed tools
# description: |
#   A request may offer a model only tools that one of the caller's roles has. `data.tools_allowed.everyone` are the
#   tools of all callers, `data.tools_allowed.roles` those of each role.
# custom:
#   reads: [admin, principal.roles, request.tools]
package lmg.policies.tools_allowed

default allow := false

allow if administers

administers if input.admin != null

allow if {
	input.principal.roles # undefined, so refused, where there is no principal
	every tool in input.request.tools {
		tool in tools
	}
}

tools contains tool if some tool in data.tools_allowed.everyone

tools contains tool if {
	some role in input.principal.roles
	some tool in data.tools_allowed.roles[role]
}

reasons contains "tool_not_allowed" if not allow
