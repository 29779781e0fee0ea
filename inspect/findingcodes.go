package inspect

// FindingCodes returns the codes that findings may have, in the order in which
// findings are listed.
func FindingCodes() []string {
	codes := make([]string, len(findingCodes))
	for i, c := range findingCodes {
		codes[i] = c.code
	}
	return codes
}
