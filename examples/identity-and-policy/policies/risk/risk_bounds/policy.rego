# METADATA
# title: Bounds by risk
# description: |
#   From `data.risk_bounds.refuse_from` on a request is refused; from `data.risk_bounds.on_prem_from` on it is answered
#   on premises only, in at most `data.risk_bounds.max_output_tokens`. A risk that nobody has measured counts as one
#   from `on_prem_from` on. It stands below the guards.
# custom:
#   reads: [admin, risk]
package lmg.policies.risk_bounds

default allow := false

allow if administers

administers if input.admin != null

allow if not measured

allow if {
	input.risk >= 0 # `null` and booleans are less than every number
	input.risk < data.risk_bounds.refuse_from
}

measured if input.risk != null

high if not measured

high if input.risk >= data.risk_bounds.on_prem_from

reasons contains "risk_too_high" if not allow

obligations[name] := value if {
	not administers
	high
	name := "on_prem"
	value := true
}

obligations[name] := value if {
	not administers
	high
	name := "max_output_tokens"
	value := data.risk_bounds.max_output_tokens
}
