package report

import "testing"

func TestDefinitionsSchema(t *testing.T) {
	t.Parallel()
	s, doc := compiled(t, "definitions")
	fits(t, doc, map[string]any{"definitions": Definitions{}, "definition": Definition{}})
	d := NewDefinitions()
	if err := s.Validate(plain(t, d)); err != nil {
		t.Fatal(err)
	}
	d.Definitions = d.Definitions[3:4]
	strict(t, "definitions", s, doc, plain(t, d))
}
