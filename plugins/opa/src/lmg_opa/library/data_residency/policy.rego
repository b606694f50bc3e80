# METADATA
# title: Data residency
# description: |
#   A tenant's data stays in its regions: only targets there are called. `data.data_residency.tenants` holds the
#   regions of each tenant, `data.data_residency.default` those of all others; without a default they are refused.
# custom:
#   reads: [admin, principal.tenant, candidates]
package lmg.policies.data_residency

default allow := false

allow if administers

administers if input.admin != null

# Refused here, and not when nothing is left to route to: the reason then says why.
allow if {
	some candidate in input.candidates
	candidate.region in regions
}

regions := data.data_residency.tenants[input.principal.tenant]

regions := data.data_residency.default if {
	input.principal.tenant
	not listed
}

listed if data.data_residency.tenants[input.principal.tenant]

reasons contains "no_region_for_tenant" if not allow

obligations[name] := value if {
	not administers
	name := "regions"
	value := regions
}
