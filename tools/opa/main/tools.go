//go:build tools

// Package tools names what is built from this module, so that go.mod and go.sum pin it and all that it needs.
package tools

import _ "github.com/open-policy-agent/opa"
