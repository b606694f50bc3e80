package lmg.policies.department_budgets_test

import data.lmg.policies.department_budgets

departments := {"support": {"budget_class": "small", "max_input_tokens": 100, "max_output_tokens": 10}}

asks(department, tokens) := {
	"admin": null,
	"principal": {"attributes": {"department": department}},
	"request": {"token_estimate": tokens},
}

test_a_department_spends_from_its_own_budget if {
	department_budgets.allow with input as asks("support", 100)
		with data.department_budgets.departments as departments
	department_budgets.obligations == {"budget_class": "small", "max_output_tokens": 10}
		with input as asks("support", 100)
		with data.department_budgets.departments as departments
}

test_a_request_is_bound_where_no_admin_is_shown_at_all if {
	asked := {"principal": {"attributes": {"department": "support"}}, "request": {"token_estimate": 1}}
	department_budgets.obligations.budget_class == "small" with input as asked
		with data.department_budgets.departments as departments
}

test_a_question_over_the_limit_is_refused if {
	department_budgets.reasons == {"request_too_large"} with input as asks("support", 101)
		with data.department_budgets.departments as departments
}

test_an_unknown_department_is_refused if {
	department_budgets.reasons == {"no_department"} with input as asks("sales", 1)
		with data.department_budgets.departments as departments
}

test_without_a_department_nobody_is_let_in if {
	nobody := {"admin": null, "principal": {"attributes": {}}, "request": {"token_estimate": 1}}
	department_budgets.reasons == {"no_department"} with input as nobody
		with data.department_budgets.departments as departments
}

test_a_request_that_was_not_measured_is_refused if {
	unmeasured := {"admin": null, "principal": {"attributes": {"department": "support"}}, "request": null}
	not department_budgets.allow with input as unmeasured with data.department_budgets.departments as departments
}

test_an_operators_call_spends_nothing if {
	department_budgets.allow with input as {"admin": {"method": "POST"}}
		with data.department_budgets.departments as departments
	department_budgets.obligations == {} with input as {"admin": {"method": "POST"}}
		with data.department_budgets.departments as departments
}
