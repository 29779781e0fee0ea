package export

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export/gradient"
	"github.com/filterlens/filterlens/export/refit"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// Options steer Prune.
type Options struct {
	PlanOptions
	// Plan, unless nil, is applied instead of one made by PlanOptions, of which only
	// Recover counts then, where the plan leaves it open. It must be for the same file.
	Plan *Plan
	// Set recovers the model, on the fitting and statistics splits, and judges it
	// before and after, on the evaluation split that Probe describes; nil leaves it
	// unrecovered and its accuracy unmeasured.
	Set *dataset.Set
	// Probe says how samples are made and split, and takes the progress.
	Probe probe.Options
	// MaxDrop is the largest loss of top-1 accuracy, in points, that passes; nil
	// lets every loss pass. It needs Set.
	MaxDrop *float64
	// Refit, Head and Finetune say how the steps of the recovery run. Samples,
	// preprocessing, progress and, where it is 0, the seed are filled in, and so is the
	// original of Head; a zero Finetune.Epochs stands for gradient.Defaults.
	Refit    refit.Options
	Head     refit.HeadOptions
	Finetune gradient.Options
	// TargetMACs and TargetLatency, when above 0, search for a plan that removes whole
	// filters until the model has at most this share of the original's multiply-
	// accumulates, or of its time for one sample; FiltersKeep is not used then. They
	// need Set. With MaxDrop less is removed where the loss would be larger.
	TargetMACs, TargetLatency float64
}

// SameFileError says that the output would overwrite an input.
type SameFileError struct{ Path string }

func (e *SameFileError) Error() string {
	return fmt.Sprintf("the output %s is a file of the model itself; give -o another path", e.Path)
}

// Prune dilutes m by the statistics res and writes the result to the file
// output, or to w when output is "". The file is written beside its target,
// opened again by the engine, checked value by value, evaluated, and only then
// moved into place: on any error nothing is left. A failed check or an accuracy
// loss above MaxDrop gives a *VerdictError together with the Report. Statistics
// of another file give a *probe.OtherModelError.
func Prune(ctx context.Context, eng engine.Engine, m *inspect.Model, res *probe.Result, output string, w io.Writer, opt Options) (*Report, error) {
	if opt.MaxDrop != nil && opt.Set == nil {
		return nil, &OptionError{"a limit on the loss of accuracy needs data to measure it on; give --data"}
	}
	if opt.MaxDrop != nil && math.IsNaN(*opt.MaxDrop) {
		return nil, &OptionError{"the limit on the loss of accuracy is not a number"}
	}
	if opt.Probe.Progress == nil {
		opt.Probe.Progress = func(string, int, int) {}
	}
	if err := CheckOutput(m, output); err != nil {
		return nil, err
	}
	if err := res.CheckModel(ctx, m.Handle); err != nil {
		return nil, err
	}
	plan, err := NewPlan(ctx, m, res, opt.PlanOptions)
	if err != nil {
		return nil, err
	}
	target := output
	if output == "" {
		dir, err := os.MkdirTemp("", "filterlens-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		target = dir + "/model.onnx"
	}
	pending, err := onnxfile.CreatePending(target)
	if err != nil {
		return nil, err
	}
	defer pending.Abort()
	draft, err := Apply(m, plan)
	if err != nil {
		return nil, err
	}
	if _, err := draft.WriteTo(pending); err != nil {
		return nil, fmt.Errorf("cannot write %s: %w", orStandard(output), err)
	}
	path, err := pending.Path()
	if err != nil {
		return nil, err
	}
	r := &Report{Schema: ReportSchema, Output: orStandard(output), Plan: plan.summary(),
		Engine: eng.Name(), EngineVersion: eng.Version(), Provider: eng.Provider(), Warnings: slices.Clone(plan.Warnings)}
	if err := r.verify(ctx, eng, m, plan, path, opt); err != nil {
		return r, err
	}
	r.Verified = true
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if output == "" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return r, err
	}
	return r, pending.Commit()
}

func orStandard(output string) string {
	if output == "" {
		return "standard output"
	}
	return output
}

// CheckOutput refuses an output that is the model or holds its external data, ""
// being standard output.
func CheckOutput(m *inspect.Model, output string) error {
	if output != "" && m.Handle.SameFile(output) {
		return &SameFileError{output}
	}
	return nil
}

// fail makes err the verdict of a check, unless it is the context's: a check
// that was interrupted has found nothing.
func (r *Report) fail(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return r.check(name, false, "%v", err)
}

// verify opens the written file again and fills r.
func (r *Report) verify(ctx context.Context, eng engine.Engine, m *inspect.Model, plan *Plan, path string, opt Options) error {
	f, err := onnxfile.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	written, err := inspect.New(ctx, f, m.Options)
	if err != nil {
		return err
	}
	opt.Probe.Progress("checking weights", 0, 1)
	r.NewZeros, err = checkSurgery(ctx, m, written, plan)
	if err != nil {
		return r.fail(ctx, "surgery", err)
	}
	if err := r.check("surgery", true, "dropped weights are zero, all others of the same layers are unchanged"); err != nil {
		return err
	}
	if err := checkUntouched(ctx, m, written, plan); err != nil {
		return r.fail(ctx, "untouched", err)
	}
	if err := r.check("untouched", true, "every other tensor and node is unchanged"); err != nil {
		return err
	}
	if r.Before, err = side(ctx, m); err != nil {
		return err
	}
	if r.After, err = side(ctx, written); err != nil {
		return err
	}
	ran, err := runs(ctx, eng, m, written)
	if err != nil {
		return r.fail(ctx, "runs", err)
	}
	did := "opened the file and ran it"
	if !ran {
		did = "opened the file; it was not run on noise, for the size of its input is open"
	}
	if err := r.check("runs", true, "%s %s %s", eng.Name(), eng.Version(), did); err != nil {
		return err
	}
	if opt.Set == nil {
		r.Warnings = append(r.Warnings, "the accuracy was not measured: give --data")
		return nil
	}
	_, _, eval, err := opt.Set.Split(opt.Probe.Split)
	if err != nil {
		return err
	}
	evals, err := probe.Evaluate(ctx, eng, []*inspect.Model{m, written}, opt.Set, eval.Index, opt.Probe)
	if err != nil {
		return err
	}
	r.Before.Evaluation, r.After.Evaluation = &evals[0], &evals[1]
	drop := points(evals[0].Correct-evals[1].Correct, evals[0].Samples)
	r.Drop, r.Changed = &drop, evals[1].Changed
	if probe.AtChance(evals[0].Top1, evals[0].Chance, evals[0].Samples) {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the original model's accuracy of %.2f %% is at chance level: check the preprocessing and the order of the labels", 100*evals[0].Top1))
	} else if probe.AtChance(evals[1].Top1, evals[1].Chance, evals[1].Samples) {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the diluted model's accuracy of %.2f %% is at chance level: dilute less, fewer layers, or retrain it", 100*evals[1].Top1))
	}
	if opt.MaxDrop != nil {
		return r.check("accuracy", drop <= *opt.MaxDrop, "top-1 went from %.2f %% to %.2f %%, a loss of %.2f points; %.2f are allowed",
			100*evals[0].Top1, 100*evals[1].Top1, drop, *opt.MaxDrop)
	}
	return nil
}

// points returns a share of samples in percentage points. Dividing once keeps a
// loss of exactly the allowed size from exceeding it by a rounding.
func points(samples, of int) float64 { return 100 * float64(samples) / float64(of) }

func side(ctx context.Context, m *inspect.Model) (*Side, error) {
	opt := m.Options
	opt.Weights = true
	full, err := inspect.New(ctx, m.Handle, opt)
	if err != nil {
		return nil, err
	}
	return &Side{Bytes: full.FileBytes + full.ExternalBytes, Parameters: full.Totals.Parameters, Zeros: full.Totals.Zeros, MACs: full.Totals.MACs}, nil
}

// runs loads the written file and runs it once on noise of a fixed seed. Where
// the original's outputs are finite, the written file's must be too. ran is false
// when the size of an input is open, so that the file was loaded only.
func runs(ctx context.Context, eng engine.Engine, original, written *inspect.Model) (ran bool, err error) {
	name, ran, err := notFinite(ctx, eng, written)
	if err != nil || name == "" {
		return ran, err
	}
	was, _, err := notFinite(ctx, eng, original)
	if err == nil && was == "" {
		err = fmt.Errorf("output %q is not finite", name)
	}
	return ran, err
}

// notFinite runs m on noise and names the first output that is not finite.
func notFinite(ctx context.Context, eng engine.Engine, m *inspect.Model) (name string, ran bool, err error) {
	s, err := eng.Load(ctx, engine.Model{Name: m.File, Path: m.File})
	if err != nil {
		return "", false, err
	}
	defer s.Close()
	in := map[string]*engine.Tensor{}
	r := rand.New(rand.NewPCG(1, 2))
	for _, v := range m.Inputs {
		shape := make([]int64, len(v.Shape.Dims))
		for i, d := range v.Shape.Dims {
			shape[i] = d.Value
			if d.Value < 0 {
				if i > 0 {
					return "", false, nil // the evaluation chooses one
				}
				shape[i] = 1
			}
		}
		x := make([]float32, engine.Elements(shape))
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		in[v.Name] = probe.NewTensor(x, v.DType == "float16", shape...)
	}
	out := map[string]*engine.Tensor{}
	for _, v := range m.Outputs {
		out[v.Name] = nil
	}
	if err := s.Run(ctx, in, out); err != nil {
		return "", false, err
	}
	for _, v := range m.Outputs {
		for _, x := range probe.Numbers(out[v.Name]) {
			if x-x != 0 {
				return v.Name, true, nil
			}
		}
	}
	return "", true, nil
}
