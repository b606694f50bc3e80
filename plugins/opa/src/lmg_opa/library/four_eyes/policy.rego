# METADATA
# title: Four eyes
# description: |
#   Who changes something through the admin API needs somebody else's approval (`POST /admin/v1/approvals/<change>`),
#   except in the components of `data.four_eyes.alone`. Reading and approving need nobody's.
# custom:
#   reads: [admin, principal.subject]
package lmg.policies.four_eyes

default allow := false

allow if {
	input.principal.subject
	not administers
}

allow if input.admin.method == "GET"

# An approval that needed one could never be given.
allow if input.admin.component == "approvals"

allow if input.admin.component in data.four_eyes.alone

allow if {
	some approver in input.admin.approvers
	approver != input.principal.subject
}

administers if input.admin != null

reasons contains "approval_required" if not allow
