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

package io.kestra.plugin.scripts.python;

import io.kestra.core.models.property.Property;
import io.kestra.core.models.tasks.RunnableTask;
import io.kestra.core.runners.RunContext;
import io.kestra.plugin.scripts.exec.AbstractExecScript;
import io.kestra.plugin.scripts.exec.scripts.models.ScriptOutput;
import jakarta.validation.constraints.NotNull;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/**
 * Stands in for the task of Kestra's Python plugin, which cannot be had everywhere.
 *
 * <p>What all script tasks share is Kestra's own: the properties taskRunner, env and timeout, the
 * runner of processes, and how an exit status ends the task. Only the line that it runs is not.
 */
public class Script extends AbstractExecScript implements RunnableTask<ScriptOutput> {
    @NotNull
    protected Property<String> script;

    protected Property<String> containerImage;

    public Property<String> getScript() {
        return script;
    }

    @Override
    public Property<String> getContainerImage() {
        return containerImage;
    }

    @Override
    public ScriptOutput run(RunContext context) throws Exception {
        Path file = context.workingDir().createTempFile(".py");
        Files.writeString(file, context.render(script).as(String.class).orElseThrow());
        return commands(context)
            .withInterpreter(interpreter)
            .withCommands(Property.ofValue(List.of("python " + file)))
            .run();
    }
}
