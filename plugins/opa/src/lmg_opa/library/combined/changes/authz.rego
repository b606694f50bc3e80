# METADATA
# title: Changes of the gateway itself
# description: |
#   What a call of the admin API must pass; it stands under `admin: pipeline:`, below the authenticators of operators.
# custom:
#   reads: [admin, principal.subject]
package lmg.authz

import data.lmg.policies.four_eyes

default allow := false

# Who asks for a model has no business here.
allow if {
	four_eyes.administers
	four_eyes.allow
}

reasons contains code if some code in four_eyes.reasons

reasons contains "not_an_admin_call" if not four_eyes.administers
