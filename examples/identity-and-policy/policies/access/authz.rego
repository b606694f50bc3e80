# METADATA
# title: At the entrance
# description: |
#   What every request must pass before anything reads its text: who may use which model, with which tools, when and
#   where.
# custom:
#   reads: [admin, candidates, principal.roles, principal.tenant, request.model, request.tools, time.hour, time.weekday]
package lmg.authz

import data.lmg.policies.data_residency
import data.lmg.policies.models_by_role
import data.lmg.policies.tools_allowed
import data.lmg.policies.working_hours

default allow := false

# Each must allow: one that is missing, or that has no answer, allows nothing.
allow if {
	data_residency.allow
	models_by_role.allow
	tools_allowed.allow
	working_hours.allow
}

reasons contains code if some code in data_residency.reasons

reasons contains code if some code in models_by_role.reasons

reasons contains code if some code in tools_allowed.reasons

reasons contains code if some code in working_hours.reasons

obligations[name] := value if some name, value in data_residency.obligations
