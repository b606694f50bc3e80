# METADATA
# title: The policy that the engines are compared with
# custom:
#   reads: [principal.tenant, principal.roles, request.model, request.max_tokens, request.note]
package lmg.authz

default allow := false

allow if {
	"chat" in input.principal.roles
	listed
	not too_long
	count(reasons) == 0
}

listed if input.request.model in data.models[input.principal.tenant]

too_long if input.request.max_tokens > 4096

reasons contains "too_long" if too_long

reasons contains "unknown_model" if not listed

reasons contains "injected" if regex.match(`(?i)ignore\s+previous`, input.request.note)

obligations := {
	"regions": ["eu"],
	"note": input.request.note,
} if {
	input.principal.tenant == "acme"
}
