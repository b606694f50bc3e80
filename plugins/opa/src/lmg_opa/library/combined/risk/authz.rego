# METADATA
# title: After the guards
# description: |
#   What a request must pass when its risk is known. Another placement of the component, with another folder: only this
#   one is shown the risk.
# custom:
#   reads: [admin, risk]
package lmg.authz

import data.lmg.policies.risk_bounds

default allow := false

allow if risk_bounds.allow

reasons contains code if some code in risk_bounds.reasons

obligations[name] := value if some name, value in risk_bounds.obligations
