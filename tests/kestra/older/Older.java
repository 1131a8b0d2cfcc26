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
import io.kestra.core.models.flows.Flow;
import io.kestra.core.runners.VariableRenderer;
import io.kestra.core.serializers.JacksonMapper;
import io.kestra.core.serializers.YamlParser;
import io.micronaut.context.ApplicationContext;
import jakarta.validation.ConstraintViolationException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What an older Kestra makes of flows and expressions.
 *
 * <p>Takes {"flows": {name: source}, "expressions": [..], "variables": {..}} on its standard input;
 * answers with {"refused": {name: why}, "rendered": [..]}. Flows are read strictly, as when one is
 * saved.
 */
public class Older {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] args) throws Exception {
        JsonNode asked = JSON.readTree(System.in);
        Map<String, String> refused = new LinkedHashMap<>();
        for (var flow : asked.get("flows").properties()) {
            try {
                YamlParser.parse(fields(flow.getValue().asText()), Flow.class, true);
            } catch (ConstraintViolationException refusal) {
                refused.put(flow.getKey(), refusal.getMessage());
            }
        }
        Map<String, Object> variables =
            JSON.convertValue(asked.get("variables"), new TypeReference<>() {});
        List<String> rendered = new ArrayList<>();
        try (ApplicationContext kestra = start(args[0])) {
            VariableRenderer renderer = kestra.getBean(VariableRenderer.class);
            for (JsonNode expression : asked.get("expressions")) {
                rendered.add(renderer.render(expression.asText(), variables));
            }
        }
        JSON.writeValue(System.out, Map.of("refused", refused, "rendered", rendered));
        System.exit(0);
    }

    private static Map<String, Object> fields(String source) throws Exception {
        return JacksonMapper.ofYaml().readValue(source, new TypeReference<>() {});
    }

    private static ApplicationContext start(String folder) {
        return ApplicationContext.builder(Older.class).properties(Map.of(
            "kestra.storage.type", "local", "kestra.storage.local.base-path", folder)).start();
    }
}
