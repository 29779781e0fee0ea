package dataset

import (
	"slices"
)

// maxLabelText bounds a label that is a text.
const maxLabelText = 1 << 10

// noLabel marks a sample without a label, as -1 in Hugging Face's test parts.
const noLabel = -1

// labelList collects labels that are numbers or texts, not both.
type labelList struct {
	label []int32
	names map[string]int32
	texts []string
	// isNumber is true after the first number.
	isNumber bool
}

func (l *labelList) len() int { return len(l.label) }

func (l *labelList) none() { l.label = append(l.label, noLabel) }

func (l *labelList) number(v int64) error {
	if v < noLabel || v >= maxLabels {
		return fault(ErrLabel, "label %d; expected 0 to %d", v, maxLabels-1)
	}
	if len(l.texts) > 0 {
		return fault(ErrLabel, "label %d is a number, the ones before it are names such as %q", v, l.texts[0])
	}
	l.isNumber = l.isNumber || v >= 0
	l.label = append(l.label, int32(v))
	return nil
}

func (l *labelList) text(s string) error {
	k, ok := l.names[s]
	if !ok {
		if l.isNumber {
			return fault(ErrLabel, "label %q is a name, the ones before it are numbers", s)
		}
		if len(l.texts) == maxLabels {
			return fault(ErrTooLarge, "more than %d labels", maxLabels)
		}
		if l.names == nil {
			l.names = map[string]int32{}
		}
		k = int32(len(l.texts))
		l.names[s] = k
		l.texts = append(l.texts, s)
	}
	l.label = append(l.label, k)
	return nil
}

// unlabelled tells whether there are labels from sample i on, but all are none.
func (l *labelList) unlabelled(i int) bool {
	return i < len(l.label) && !slices.ContainsFunc(l.label[i:], func(v int32) bool { return v != noLabel })
}

func (l *labelList) cut(i int) { l.label = l.label[:i] }

// resolve returns the labels and their names: those of opt, those that the data
// gives, else texts in byte order or numbers. id names a sample.
func (l *labelList) resolve(names []string, opt Options, id func(int) string) ([]int32, []string, error) {
	if i := slices.Index(l.label, noLabel); i >= 0 {
		return nil, nil, fault(ErrLabel, "%s has no label; remove the rows without labels", id(i))
	}
	if len(l.texts) > 0 {
		order := slices.Sorted(slices.Values(l.texts))
		if opt.Labels != nil {
			order = opt.Labels
		}
		to := make([]int32, len(l.texts))
		number := make(map[string]int32, len(order))
		for i, name := range order {
			if _, ok := number[name]; ok {
				return nil, nil, fault(ErrLabel, "label %q is given twice", name)
			}
			number[name] = int32(i)
		}
		for i, text := range l.texts {
			k, ok := number[text]
			if !ok {
				return nil, nil, fault(ErrLabel, "label %q is not among the %d labels given", text, len(order))
			}
			to[i] = k
		}
		for i, k := range l.label {
			l.label[i] = to[k]
		}
		return l.label, slices.Clone(order), nil
	}
	if opt.Labels != nil {
		names = slices.Clone(opt.Labels)
	}
	highest := 0
	if len(l.label) > 0 {
		highest = int(slices.Max(l.label))
	}
	if names == nil {
		names = numbered(highest + 1)
	}
	if highest >= len(names) {
		i := slices.Index(l.label, int32(highest))
		return nil, nil, fault(ErrLabel, "%s has label %d, but there are %d label names", id(i), highest, len(names))
	}
	return l.label, names, nil
}
