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

// Command flagger_hook calls a webhook of a Canary as Flagger does.
//
// From standard input it reads the Canary, the webhook, the canary's phase, and the hash of what
// is rolled out. It prints the error that Flagger gets, empty for success.
package main

import (
	"encoding/json"
	"log"
	"os"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	"github.com/fluxcd/flagger/pkg/controller"
)

type call struct {
	Canary  flaggerv1.Canary        `json:"canary"`
	Webhook flaggerv1.CanaryWebhook `json:"webhook"`
	Phase   flaggerv1.CanaryPhase   `json:"phase"`
	Spec    string                  `json:"spec"`
}

func main() {
	var asked call
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		log.Fatal(err)
	}
	said := ""
	if err := carryOut(asked); err != nil {
		said = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"error": said}); err != nil {
		log.Fatal(err)
	}
}

func carryOut(asked call) error {
	canary := asked.Canary
	canary.Status.Phase = asked.Phase
	canary.Status.LastAppliedSpec = asked.Spec
	if asked.Webhook.Type == flaggerv1.EventHook {
		return controller.CallEventWebhook(&canary, asked.Webhook, "Halt advancement", "Warning")
	}
	return controller.CallWebhook(canary, asked.Phase, asked.Webhook)
}
