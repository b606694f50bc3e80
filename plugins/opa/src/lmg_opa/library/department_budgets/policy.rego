# METADATA
# title: Department budgets
# description: |
#   Each department (the caller's attribute `department`) spends from a budget of its own and has limits on the size of
#   questions and answers: `data.department_budgets.departments`, by name, each with `budget_class`,
#   `max_input_tokens` and `max_output_tokens`. Who belongs to no such department is refused.
#   A component further down must spend from budget classes; without one the gateway refuses.
# custom:
#   reads: [admin, principal.attributes.department, request.token_estimate]
package lmg.policies.department_budgets

default allow := false

allow if administers

administers if input.admin != null

allow if input.request.token_estimate <= department.max_input_tokens

department := data.department_budgets.departments[input.principal.attributes.department]

reasons contains "no_department" if {
	not allow
	not department
}

reasons contains "request_too_large" if {
	not allow
	department
}

obligations[name] := value if {
	not administers
	name := "budget_class"
	value := department.budget_class
}

obligations[name] := value if {
	not administers
	name := "max_output_tokens"
	value := department.max_output_tokens
}
