package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export"
	"github.com/filterlens/filterlens/export/compact"
	"github.com/filterlens/filterlens/export/refit"
)

func headSection(h *refit.HeadFit) Section {
	facts := []Fact{
		{"layer", Words(h.Layer)},
		{"samples", Words(fmt.Sprintf("%s trained on, %s held out", grouped(int64(h.Samples)), grouped(int64(h.HeldOut))))},
		{"held-out loss", Words(fmt.Sprintf("%.4f before, %.4f after", h.LossBefore, h.LossAfter))},
		{"held-out accuracy", Words(fmt.Sprintf("%s before, %s after", Share(h.AccuracyBefore).Text, Share(h.AccuracyAfter).Text))},
		{"L2", Cell{Text: fmt.Sprintf("%g, the best of those tried; %s in all", h.L2, plural(h.Iterations, "iteration")), Raw: h.L2}},
	}
	if h.Kept {
		facts = append(facts, Fact{"verdict", Words("no better; the classifier stayed as it was")})
	}
	return Section{Title: "Recovery: the classifier", Facts: facts, Notes: []string{
		fmt.Sprintf("loss: mean cross-entropy in nats with targets of which %s are the original's answers; held out: samples of the fitting and the statistics split that training did not see", Share(h.Soft).Text),
	}}
}

func trainingSection(s *export.Step) Section {
	h := s.Training
	t := &Table{Columns: []Column{
		{Title: "epoch", Key: "epoch", Right: true}, {Title: "loss", Key: "loss", Right: true, Drop: 1}, {Title: "accuracy", Key: "train_accuracy", Right: true, Drop: 2},
		{Title: "held-out accuracy", Key: "accuracy", Right: true}, {Title: "loss", Key: "held_out_loss", Right: true}, {Title: "rate", Key: "learning_rate", Right: true, Drop: 3}, {Title: "took", Key: "seconds", Right: true, Drop: 4},
		{Key: "taken"},
	}}
	four := func(v float64) Cell { return Number(v, 4) }
	for _, e := range h.Epochs {
		taken := none
		if e.Epoch == h.Best {
			taken = Words("taken")
		}
		t.Rows = append(t.Rows, []Cell{Count(int64(e.Epoch)), optional(e.Loss, four, unread), optional(e.TrainAccuracy, Share, unread),
			optional(e.Accuracy, Share, unread), optional(e.HeldOutLoss, four, unread), {Text: fmt.Sprintf("%.2g", e.Rate), Raw: e.Rate},
			{Text: Seconds(time.Duration(e.Seconds * float64(time.Second))), Raw: e.Seconds}, taken})
	}
	samples := fmt.Sprintf("%s trained on in batches of %d, %s held out to judge the epochs; all of the fitting and the statistics split", grouped(int64(h.TrainSamples)), h.Batch, grouped(int64(h.HeldOutSamples)))
	facts := []Fact{{"samples", Words(samples)}, {"weights", Words(fmt.Sprintf("%s trained, %s of them held at zero", grouped(h.Parameters), grouped(h.Zeros)))}}
	if h.Stopped != "" {
		why := map[string]string{"patience": "no epoch was better for a while", "diverged": "the loss grew beyond bounds"}[h.Stopped]
		facts = append(facts, Fact{"ended early", Words(why)})
	}
	return Section{Title: "Recovery: fine-tuning", Facts: facts, Table: t, Notes: []string{
		"loss and accuracy on the left are those of the training samples as they were met, augmented; epoch 0 is the model before; the epoch with the best held-out accuracy is taken",
	}}
}

func channelSection(c *export.Compaction) Section {
	t := &Table{Columns: []Column{{Title: "made by", Key: "layers", Shrink: true}, {Title: "channels", Key: "size", Right: true}, {Title: "kept", Key: "kept", Right: true}}}
	for _, g := range c.Groups {
		names := layerName("Conv", g.Layers[:min(1, len(g.Layers))]...)
		if n := len(g.Layers); n > 1 {
			names = Words(names.Short + fmt.Sprintf(" and %d more", n-1))
			names.Raw = strings.Join(g.Layers, " ")
		}
		t.Rows = append(t.Rows, []Cell{names, Count(int64(g.Size)), Count(int64(g.Kept))})
	}
	notes := []string{fmt.Sprintf("%s of %s went: nothing reads them, they are constant, or they were to go", plural(c.Removed, "channel"), grouped(int64(c.Channels)))}
	if c.Nodes+c.Tensors > 0 {
		notes = append(notes, fmt.Sprintf("%s and %s that nothing reads went with them", plural(c.Nodes, "node"), plural(c.Tensors, "stored tensor")))
	}
	return Section{Title: "Channels removed", Table: t, Notes: notes}
}

func groupedSection(list []export.GroupedLayer) Section {
	t := &Table{Columns: []Column{{Title: "layer", Key: "layer", Shrink: true}, {Title: "blocks", Key: "components", Right: true}, {Title: "groups", Key: "groups", Right: true},
		{Title: "MACs", Key: "macs_share", Right: true}, {Title: "Gathers", Key: "gathers", Right: true}, {Title: "ms before", Key: "before_ms", Right: true},
		{Title: "ms after", Key: "after_ms", Right: true}, {Title: "rounds won", Key: "won", Right: true}, {Title: "kept", Key: "kept"}}}
	var notes []string
	for _, l := range list {
		before, after, won := unread, unread, unread
		if l.Before != nil && l.After != nil {
			before, after, won = milliseconds(l.Before.Median), milliseconds(l.After.Median), Share(l.Won)
		}
		kept := Words("no")
		if l.Kept {
			kept = Words("yes")
		} else if !slices.Contains(notes, l.Reason) {
			notes = append(notes, l.Reason)
		}
		t.Rows = append(t.Rows, []Cell{layerName("Conv", l.Layer), Count(int64(l.Components)), Count(int64(l.Groups)), Share(l.MACs),
			{Text: fmt.Sprint(l.Gathers), Raw: l.Gathers}, before, after, won, kept})
	}
	notes = append([]string{"blocks are parts of a convolution that no kernel connects, MACs the share that is left of the layer's; times are medians of the whole model for one sample, with this layer in groups against without, in turn"}, notes...)
	return Section{Title: "Convolutions in groups", Table: t, Notes: notes}
}

// obstacleSections name what keeps channels.
func obstacleSections(barriers []compact.Barrier, refused []compact.Refusal) (out []Section) {
	if len(barriers) > 0 {
		skips := make([]probe.Skip, len(barriers))
		for i, b := range barriers {
			skips[i] = probe.Skip{Layer: b.Node, Reason: b.Op + ": " + b.Reason}
		}
		s := Section{Title: "Operators that keep the channels they touch"}
		for _, g := range byReason(skips) {
			s.Facts = append(s.Facts, Fact{plural(len(g.layers), "node"), Words(g.reason + ": " + firstNames(g.layers))})
		}
		out = append(out, s)
	}
	if len(refused) > 0 {
		s := Section{Title: "Filters that were to go and stay"}
		for _, f := range refused {
			s.Facts = append(s.Facts, Fact{f.Layer, Words(plural(len(f.Filters), "filter") + ": " + f.Reason)})
		}
		out = append(out, s)
	}
	return out
}
