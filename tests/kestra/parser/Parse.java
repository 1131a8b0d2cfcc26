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
import io.kestra.core.models.flows.Flow;
import io.kestra.core.serializers.JacksonMapper;
import io.kestra.core.serializers.YamlParser;
import jakarta.validation.ConstraintViolationException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

/** Reads flows strictly, as Kestra does when one is saved; prints what it refuses, a line each. */
public class Parse {
    public static void main(String[] files) throws Exception {
        for (String file : files) {
            Map<String, Object> source = JacksonMapper.ofYaml()
                .readValue(Files.readString(Path.of(file)), new TypeReference<>() {});
            try {
                YamlParser.parse(source, Flow.class, true);
            } catch (ConstraintViolationException refusal) {
                String why = refusal.getMessage().lines().findFirst().orElseThrow();
                System.out.println(Path.of(file).getFileName() + ": " + why);
            }
        }
    }
}
