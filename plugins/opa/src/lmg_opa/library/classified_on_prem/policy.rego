# METADATA
# title: Classified data stays on premises
# description: |
#   What a caller works with (its attribute `data_class`) is public only where `data.classified_on_prem.public` says so.
#   All else is classified: it is answered by models on premises only, and asked for only with a clearance (the
#   attribute `clearance`) that `data.classified_on_prem.clearances` has for that class.
# custom:
#   reads: [admin, principal.attributes]
package lmg.policies.classified_on_prem

default allow := false

allow if administers

administers if input.admin != null

allow if public

allow if input.principal.attributes.clearance in data.classified_on_prem.clearances[data_class]

data_class := input.principal.attributes.data_class

public if data_class in data.classified_on_prem.public

reasons contains "clearance_required" if not allow

# Whatever is not known to be public is bound.
obligations[name] := value if {
	not administers
	not public
	name := "on_prem"
	value := true
}

obligations[name] := value if {
	not administers
	not public
	name := "tags"
	value := {"classified": "true"}
}
