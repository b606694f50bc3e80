# METADATA
# title: Models by role
# description: |
#   A caller may ask for a model that one of its roles has. `data.models_by_role.roles` holds each role's
#   models by name; `"*"` stands for all of them.
# custom:
#   reads: [admin, principal.roles, request.model]
package lmg.policies.models_by_role

default allow := false

allow if administers

administers if input.admin != null

allow if {
	some role in input.principal.roles
	some model in data.models_by_role.roles[role]
	model in {"*", input.request.model}
}

reasons contains "model_not_allowed" if not allow
