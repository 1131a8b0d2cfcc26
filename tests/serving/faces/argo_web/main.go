// Copyright 2026 - The oumi_deploy authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

// Command argo_web takes one measurement with Argo Rollouts' own web provider.
//
// From standard input it reads the path of an AnalysisTemplate, what its args are, and seconds to
// wait instead of the template's, 0 for those. It prints the measurement as Argo Rollouts records
// it: phase, value and message.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/argoproj/argo-rollouts/metricproviders/webmetric"
	"github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	analysisutil "github.com/argoproj/argo-rollouts/utils/analysis"
	"github.com/sirupsen/logrus"
	"sigs.k8s.io/yaml"
)

type question struct {
	Template       string            `json:"template"`
	Args           map[string]string `json:"args"`
	TimeoutSeconds int64             `json:"timeout_seconds"`
}

func main() {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		log.Fatal(err)
	}
	measurement, err := measure(asked)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(measurement); err != nil {
		log.Fatal(err)
	}
}

func measure(asked question) (*v1alpha1.Measurement, error) {
	metric, err := resolvedMetric(asked)
	if err != nil {
		return nil, err
	}
	client, err := webmetric.NewWebMetricHttpClient(*metric)
	if err != nil {
		return nil, err
	}
	parser, err := webmetric.NewWebMetricJsonParser(*metric)
	if err != nil {
		return nil, err
	}
	provider := webmetric.NewWebMetricProvider(*logrus.NewEntry(logrus.New()), client, parser)
	measurement := provider.Run(&v1alpha1.AnalysisRun{}, *metric)
	return &measurement, nil
}

// resolvedMetric returns the template's only metric as the controller hands it to the provider.
func resolvedMetric(asked question) (*v1alpha1.Metric, error) {
	text, err := os.ReadFile(asked.Template)
	if err != nil {
		return nil, err
	}
	var template v1alpha1.AnalysisTemplate
	if err := yaml.UnmarshalStrict(text, &template); err != nil {
		return nil, err
	}
	if err := analysisutil.ValidateMetrics(template.Spec.Metrics); err != nil {
		return nil, err
	}
	if len(template.Spec.Metrics) != 1 || template.Spec.Metrics[0].EffectiveCount() == nil {
		return nil, fmt.Errorf("%s: a step's analysis takes one metric with a count", asked.Template)
	}
	args, err := filledIn(template.Spec.Args, asked.Args)
	if err != nil {
		return nil, err
	}
	metric, err := analysisutil.ResolveMetricArgs(template.Spec.Metrics[0], args)
	if err == nil && asked.TimeoutSeconds > 0 {
		metric.Provider.Web.TimeoutSeconds = asked.TimeoutSeconds
	}
	return metric, err
}

// filledIn returns the template's args with the values given. That of a Secret is given as plain
// text: the controller reads the Secret before it resolves a metric.
func filledIn(args []v1alpha1.Argument, values map[string]string) ([]v1alpha1.Argument, error) {
	var given []v1alpha1.Argument
	for name, value := range values {
		given = append(given, v1alpha1.Argument{Name: name, Value: &value})
	}
	return analysisutil.MergeArgs(given, args)
}
