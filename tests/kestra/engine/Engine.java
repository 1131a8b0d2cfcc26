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

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.grpc.ServerBuilder;
import io.grpc.ServerCredentials;
import io.grpc.ServerProvider;
import io.grpc.ServerRegistry;
import io.grpc.netty.NettyServerBuilder;
import io.kestra.core.models.executions.Execution;
import io.kestra.core.models.flows.Flow;
import io.kestra.core.models.flows.FlowSource;
import io.kestra.core.models.triggers.TriggerId;
import io.kestra.core.repositories.ExecutionRepositoryInterface;
import io.kestra.core.repositories.LogDataStoreInterface;
import io.kestra.core.repositories.TriggerRepositoryInterface;
import io.kestra.core.runners.FlowInputOutput;
import io.kestra.core.runners.TestRunner;
import io.kestra.core.runners.TestRunnerUtils;
import io.kestra.core.runners.VariableRenderer;
import io.kestra.core.services.ExecutionService;
import io.kestra.core.services.FlowService;
import io.micronaut.context.ApplicationContext;
import io.micronaut.data.model.Pageable;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Stream;
import org.slf4j.event.Level;

/**
 * Kestra's engine in one process: takes a question a line as JSON, and answers in one line.
 *
 * <p>{"load": source}, {"start": flow, "inputs": {..}}, {"execution": id}, {"restart": id,
 * "seconds": n}, {"executions": flow}, {"next": trigger, "flow": flow} and {"render": [..],
 * "variables": {..}}. It ends with its standard input, so that it does not outlive its starter.
 * All that it knows is in its folder: started there again it goes on.
 */
public class Engine {
    private static final String TENANT = "main";
    private static final String NAMESPACE = "company.releases";
    private static final String DATABASE =
        "jdbc:h2:file:%s/database;TIME ZONE=UTC;DB_CLOSE_DELAY=-1;DB_CLOSE_ON_EXIT=FALSE";
    private static final ObjectMapper JSON = new ObjectMapper();

    private final ApplicationContext kestra;

    Engine(ApplicationContext kestra) {
        this.kestra = kestra;
    }

    public static void main(String[] args) throws Exception {
        PrintStream answers = System.out;
        System.setOut(System.err);
        ServerRegistry.getDefaultRegistry().register(new OnLoopback());
        Thread.setDefaultUncaughtExceptionHandler((thread, error) -> {
            error.printStackTrace();
            System.exit(1);
        });
        ApplicationContext kestra = ApplicationContext.builder(Engine.class, "test")
            .properties(settings(args[0], Integer.parseInt(args[1])))
            .start();
        kestra.getBean(TestRunner.class).run();
        Engine engine = new Engine(kestra);
        answers.println("{\"ready\": true}");
        BufferedReader questions = new BufferedReader(new InputStreamReader(System.in));
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            answers.println(JSON.writeValueAsString(engine.answer(JSON.readTree(line))));
        }
        System.exit(0);
    }

    /**
     * What `server local` sets, with nothing reported to anybody, and with a worker that is gone
     * noticed within seconds rather than minutes.
     */
    private static Map<String, Object> settings(String folder, int port) {
        Map<String, Object> all = new HashMap<>();
        all.put("datasources.h2.url", DATABASE.formatted(folder));
        all.put("datasources.h2.username", "sa");
        all.put("datasources.h2.password", "");
        all.put("datasources.h2.driver-class-name", "org.h2.Driver");
        all.put("kestra.server-type", "STANDALONE");
        all.put("kestra.queue.type", "h2");
        all.put("kestra.repository.type", "h2");
        all.put("kestra.storage.type", "local");
        all.put("kestra.storage.local.base-path", folder);
        all.put("kestra.server.service.purge.initial-delay", "1h");
        all.put("kestra.server.service.purge.fixed-delay", "1d");
        all.put("kestra.server.service.purge.retention", "30d");
        all.put("kestra.server.termination-grace-period", "3s");
        all.put("kestra.server.liveness.interval", "1s");
        all.put("kestra.server.liveness.timeout", "20s");
        all.put("kestra.server.liveness.initial-delay", "1s");
        all.put("kestra.server.liveness.heartbeat-interval", "1s");
        all.put("kestra.controller.port", port);
        all.put("kestra.worker.controllers.type", "STATIC");
        all.put("kestra.worker.controllers.static.endpoints[0].host", "127.0.0.1");
        all.put("kestra.worker.controllers.static.endpoints[0].port", port);
        all.put("kestra.anonymous-usage-report.enabled", false);
        return all;
    }

    /** A question that fails, such as an execution that does not end in time, is not the end. */
    private Object answer(JsonNode question) {
        try {
            return act(question);
        } catch (Exception failure) {
            return Map.of("failure", failure.toString());
        }
    }

    private Object act(JsonNode question) throws Exception {
        if (question.has("load")) {
            return load(question.get("load").asText());
        }
        if (question.has("start")) {
            return start(question);
        }
        if (question.has("restart")) {
            return restart(question);
        }
        if (question.has("next")) {
            return next(question);
        }
        if (question.has("render")) {
            return render(question);
        }
        var executions = kestra.getBean(ExecutionRepositoryInterface.class);
        if (question.has("execution")) {
            return told(executions.findById(TENANT, question.get("execution").asText()).orElseThrow());
        }
        List<Object> all = new ArrayList<>();
        executions
            .findByFlowId(TENANT, NAMESPACE, question.get("executions").asText(), Pageable.UNPAGED)
            .forEach(execution -> all.add(told(execution)));
        return all;
    }

    /** Takes a flow as Kestra's API does: what is wrong with it, what is deprecated, else in. */
    private Object load(String source) throws Exception {
        FlowService flows = kestra.getBean(FlowService.class);
        var found = flows.validate(TENANT, List.of(new FlowSource("flow.yaml", source))).getFirst();
        Map<String, Object> told = new LinkedHashMap<>();
        told.put("problems", Stream.ofNullable(found.getConstraints()).toList());
        told.put("deprecated", Objects.requireNonNullElse(found.getDeprecationPaths(), List.of()));
        told.put("warnings", Objects.requireNonNullElse(found.getWarnings(), List.of()));
        if (found.getConstraints() == null) {
            flows.importFlow(TENANT, source);
        }
        return told;
    }

    private Object start(JsonNode question) throws Exception {
        Map<String, Object> inputs =
            JSON.convertValue(question.get("inputs"), new TypeReference<>() {});
        FlowInputOutput reader = kestra.getBean(FlowInputOutput.class);
        return told(kestra.getBean(TestRunnerUtils.class).runOneUntil(
            TENANT, NAMESPACE, question.get("start").asText(), null,
            (flow, execution) -> reader.readExecutionInputs(flow, execution, inputs),
            Duration.ofSeconds(60), execution -> true
        ));
    }

    private Object restart(JsonNode question) throws Exception {
        Execution failed = kestra.getBean(ExecutionRepositoryInterface.class)
            .findById(TENANT, question.get("restart").asText()).orElseThrow();
        Flow flow = kestra.getBean(FlowService.class)
            .findById(TENANT, NAMESPACE, failed.getFlowId()).orElseThrow();
        int before = failed.getMetadata().getAttemptNumber();
        Execution again = kestra.getBean(ExecutionService.class).restart(failed, flow, null);
        Execution ended = kestra.getBean(TestRunnerUtils.class).restartExecution(
            execution -> execution.getState().isTerminated()
                && execution.getMetadata().getAttemptNumber() > before, again,
            Duration.ofSeconds(question.get("seconds").asInt())
        );
        return told(ended);
    }

    /** Tells when the scheduler means to fire a trigger next. */
    private Object next(JsonNode question) {
        String flow = question.get("flow").asText();
        String trigger = question.get("next").asText();
        return kestra.getBean(TriggerRepositoryInterface.class)
            .findById(TriggerId.of(TENANT, NAMESPACE, flow, trigger))
            .map(state -> state.getNextEvaluationDate().toString()).orElse("");
    }

    private Object render(JsonNode question) throws Exception {
        Map<String, Object> variables =
            JSON.convertValue(question.get("variables"), new TypeReference<>() {});
        List<String> rendered = new ArrayList<>();
        for (JsonNode expression : question.get("render")) {
            rendered.add(
                kestra.getBean(VariableRenderer.class).render(expression.asText(), variables));
        }
        return rendered;
    }

    private Map<String, Object> told(Execution execution) {
        Map<String, Object> told = new LinkedHashMap<>();
        told.put("id", execution.getId());
        told.put("state", execution.getState().getCurrent().name());
        Map<String, String> labels = new LinkedHashMap<>();
        execution.getLabels().forEach(label -> labels.put(label.key(), label.value()));
        told.put("labels", labels);
        told.put("inputs", execution.getInputs());
        if (execution.getTrigger() != null) {
            told.put("trigger", execution.getTrigger().getId());
            told.put("due", String.valueOf(execution.getTrigger().getVariables().get("date")));
        }
        List<List<String>> tasks = new ArrayList<>();
        if (execution.getTaskRunList() != null) {
            execution.getTaskRunList().forEach(
                task -> tasks.add(List.of(task.getTaskId(), task.getState().getCurrent().name())));
        }
        told.put("tasks", tasks);
        List<String> messages = new ArrayList<>();
        kestra.getBean(LogDataStoreInterface.class)
            .findByExecutionId(TENANT, execution.getId(), Level.INFO)
            .forEach(entry -> messages.add(entry.getMessage()));
        told.put("messages", messages);
        return told;
    }

    /** Kestra's controller of workers would listen to every address of the machine. */
    private static class OnLoopback extends ServerProvider {
        @Override
        protected boolean isAvailable() {
            return true;
        }

        @Override
        protected int priority() {
            return 10;
        }

        @Override
        protected ServerBuilder<?> builderForPort(int port) {
            return NettyServerBuilder.forAddress(loopback(port));
        }

        @Override
        protected NewServerBuilderResult newServerBuilderForPort(
            int port, ServerCredentials credentials
        ) {
            return NewServerBuilderResult.serverBuilder(
                NettyServerBuilder.forAddress(loopback(port), credentials));
        }

        private static InetSocketAddress loopback(int port) {
            return new InetSocketAddress(InetAddress.getLoopbackAddress(), port);
        }
    }
}
