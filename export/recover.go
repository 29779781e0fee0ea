package export

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/filterlens/filterlens/export/gradient"
	"github.com/filterlens/filterlens/export/refit"
	"github.com/filterlens/filterlens/inspect"
)

// recover runs the steps of the recovery after the masked model, without removing
// channels on the way.
func (p *pipeline) recover(ctx context.Context, masked *temporary) (last *temporary, models []*inspect.Model, err error) {
	p.begin()
	last, models, err = p.follow(ctx, masked, p.steps)
	return last, append([]*inspect.Model{masked.m}, models...), err
}

// begin notes the masked model as the first step, and on which samples others follow.
func (p *pipeline) begin() {
	p.r.Steps = append(p.r.Steps, Step{Name: Masked})
	if len(p.steps) > 0 && p.opt.Set != nil {
		p.r.samples(p).Fit, p.r.samples(p).Stats = part(p.fit), part(p.stats)
	}
}

// follow runs steps, each on the file that the one before it left, and proves that what
// was zero in the first one is zero and that nothing else changed than what the steps
// told. It returns the last model and those of all steps that were not left out.
func (p *pipeline) follow(ctx context.Context, first *temporary, steps []string) (last *temporary, models []*inspect.Model, err error) {
	last = first
	changed := map[string]bool{}
	for _, name := range steps {
		s := Step{Name: name}
		begin := time.Now()
		weights, err := p.step(ctx, &s, last.m)
		if err != nil && (!p.open || !cannot(err)) {
			return nil, nil, fmt.Errorf("recovery by %s: %w", name, err)
		}
		if err != nil {
			s.Skipped = err.Error()
		} else if len(weights) > 0 {
			draft, err := refit.Rewrite(last.m, weights)
			if err != nil {
				return nil, nil, fmt.Errorf("recovery by %s: %w", name, err)
			}
			if last, err = p.write(ctx, draft); err != nil {
				return nil, nil, err
			}
			for w := range weights {
				changed[w] = true
			}
		}
		s.Seconds = time.Since(begin).Seconds()
		p.r.Steps = append(p.r.Steps, s)
		if s.Skipped == "" {
			models = append(models, last.m)
		}
	}
	if len(changed) == 0 {
		return last, models, nil
	}
	check := "recovery"
	if steps[0] == RecoverFinetune {
		check = RecoverFinetune
	}
	zeros, err := checkHeld(ctx, first.m, last.m)
	if err == nil {
		err = checkUntouched(ctx, first.m, last.m, changed)
	}
	if err != nil {
		return nil, nil, p.r.fail(ctx, check, err)
	}
	return last, models, p.r.check(check, true, "all %d zeros of the masked layers are zero, nothing but the %d tensors that were refitted is changed", zeros, len(changed))
}

// finetuning returns how a training by gradient runs.
func (p *pipeline) finetuning() gradient.Options {
	o := p.opt.Finetune
	if o.Epochs == 0 {
		o = gradient.Defaults()
		o.Seed = 0
	}
	if o.Seed == 0 {
		o.Seed = p.opt.Probe.Split.Seed
	}
	o.Preprocess = p.opt.Probe.Preprocess
	return o
}

// cannot tells that a step is not possible on a model, or with so few samples.
func cannot(err error) bool {
	var head *refit.NoClassifierError
	var option *refit.OptionError
	var operator *gradient.UnsupportedError
	return errors.As(err, &head) || errors.As(err, &option) || errors.As(err, &operator)
}

// step returns the new weights that one step gives the model.
func (p *pipeline) step(ctx context.Context, s *Step, m *inspect.Model) (weights map[string][]float32, err error) {
	index := slices.Sorted(slices.Values(slices.Concat(p.fit.Index, p.stats.Index)))
	finetune := p.finetuning()
	if slices.Contains(p.steps, RecoverFinetune) {
		// Samples that judge the epochs must be new to the steps before, too: to a
		// classifier that was fitted to them the model before training looks better.
		index, finetune.Judge = gradient.HoldOut(p.opt.Set, index, finetune.HoldOut, finetune.Seed)
	}
	seed := p.opt.Probe.Split.Seed
	progress := func(stage string, done, total int) { p.opt.Probe.Progress(s.Name+": "+stage, done, total) }
	ro := p.opt.Refit
	ro.Index, ro.Preprocess, ro.Progress = index, p.opt.Probe.Preprocess, progress
	if ro.Seed == 0 {
		ro.Seed = seed
	}
	switch s.Name {
	case RecoverBias:
		weights, s.Layers, err = refit.Bias(ctx, p.eng, p.m, m, nil, p.opt.Set, ro)
	case RecoverRidge:
		weights, s.Layers, err = refit.Ridge(ctx, p.eng, p.m, m, nil, p.opt.Set, ro)
	case RecoverHead:
		ho := p.opt.Head
		ho.Original = p.m
		weights, s.Head, err = refit.Head(ctx, p.eng, m, p.opt.Set, ro, ho)
	case RecoverFinetune:
		finetune.Progress = progress
		weights, s.Training, err = gradient.Train(ctx, p.eng, p.m, m, p.opt.Set, index, finetune)
		if err == nil && s.Training.Best == 0 {
			weights = nil // no epoch was better than what was there
		}
	}
	return weights, err
}
