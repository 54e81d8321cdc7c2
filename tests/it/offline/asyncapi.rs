//! `schema asyncapi`.

use std::path::{Path, PathBuf};
use std::process::Command;

use boon::{Compiler, SchemaIndex, Schemas};
use expect_test::expect;
use serde_json::{Value, json};

use super::example_files::examples;
use crate::support::Home;

/// The JSON Schema that `AsyncAPI` publishes for documents of version 3.0.
struct Published {
    schemas: Schemas,
    root: SchemaIndex,
}

impl Published {
    fn read() -> Self {
        let text = include_str!("../../fixtures/asyncapi/3.0.0.json");
        let mut compiler = Compiler::new();
        let url = "http://asyncapi.com/definitions/3.0.0/asyncapi.json";
        compiler.add_resource(url, serde_json::from_str(text).expect("JSON")).expect("a schema");
        let mut schemas = Schemas::new();
        let root = compiler.compile(url, &mut schemas).unwrap_or_else(|error| panic!("{error:#}"));
        Self { schemas, root }
    }

    fn errors(&self, document: &Value) -> Option<String> {
        self.schemas.validate(document, self.root).err().map(|error| format!("{error:#}"))
    }
}

fn described(file: &Path) -> Value {
    let mut relay = Command::new(env!("CARGO_BIN_EXE_regards-relay"));
    let output = relay.env_clear().arg("--config").arg(file).args(["schema", "asyncapi"]).output().expect("the binary");
    assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Every `$ref` of the document leads to something in it.
fn check_references(document: &Value, value: &Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if let ("$ref", Some(reference)) = (name.as_str(), member.as_str()) {
                    let pointer = reference.strip_prefix('#').expect("a reference in the document");
                    assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                check_references(document, member);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| check_references(document, item)),
        _ => {}
    }
}

#[test]
fn documents_of_all_examples_are_valid() {
    let published = Published::read();
    let main = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("routes.yaml");
    for file in examples().into_iter().chain([main]) {
        let document = described(&file);
        assert_eq!(published.errors(&document), None, "{}", file.display());
        check_references(&document, &document);
    }
    let wrong = json!({ "asyncapi": "3.0.0", "info": { "title": "x" } });
    let error = published.errors(&wrong).expect("an error");
    assert!(error.contains("'/info'") && error.contains("version"), "{error}");
}

const ROUTES: &str = r#"
version: 1
name: urn:example:institute
sources:
  regards:
    amqp: { url: "amqps://relay:${PASSWORD}@rabbit.example.org/regards", queue: partner.responses }
    expects: lta
  samples: { recording: { path: samples.ndjson }, expects: order }
sinks:
  pipeline:
    kafka: { brokers: "k1:9092,k2:9092", topic: "regards.{{ tenant | lower }}.{{ status }}", headers: { team: "${PASSWORD}" } }
    format: { avro: { registry: { url: "https://relay:${PASSWORD}@registry.example.org/v7" } } }
  changed.events:
    amqp: { url: "amqps://rabbit.example.org", exchange: products, routing_key: "{{ team }}", declare: { type: topic } }
  catalogue:
    webhook: { url: "https://catalogue.example.org/in/${PASSWORD}/{{ tenant }}?key=${PASSWORD}", secret: "${SIGNATURE}" }
    format: cloudevents
  many:
    webhook: { url: "https://catalogue.example.org/digests" }
    group: { by: [tenant], wait: 10s, max: 50 }
  archive: { file: { path: "{{ tenant }}.ndjson" } }
  graves: { kafka: { brokers: "k1:9092,k2:9092", topic: graves } }
routes:
  - { name: everything, to: [pipeline, catalogue, archive, many] }
  - { name: failures, when: { status: ERROR }, to: changed.events, transform: [{ remove: extra }, { set: { team: storage } }] }
unrouted: drop
dead_letters: { to: graves }
alerts:
  - { name: reload, reload_failed: {}, to: catalogue }
"#;

#[test]
fn channels_have_their_addresses_and_messages_and_no_secret() {
    let home = Home::new(ROUTES)
        .with("PASSWORD", "s3cr3t-word")
        .with("SIGNATURE", "whsec_b25lIHRoYXQgaXMga25vd24gdG8gbm9ib2R5");
    let text = home.does(&["schema", "asyncapi"]);
    assert!(!text.contains("s3cr3t") && !text.contains("whsec"), "{text}");
    let mut document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(Published::read().errors(&document), None);
    check_references(&document, &document);
    let schemas = document["components"]["schemas"].as_object_mut().expect("schemas");
    let event: Value = serde_json::from_str(&home.does(&["schema", "event"])).expect("JSON");
    let avro: Value = serde_json::from_str(&home.does(&["schema", "avro"])).expect("JSON");
    let described = schemas.remove("event").expect("the event");
    assert_eq!(described["properties"], event["properties"]);
    assert_eq!(schemas.remove("event_avro").expect("the event in Avro")["schema"], avro);
    for operation in document["operations"].as_object_mut().expect("operations").values_mut() {
        // They lead to the channel of the same name, as the references show.
        operation.as_object_mut().expect("an operation").remove("channel");
    }
    document["info"]["version"] = json!("VERSION");
    expect![[r##"
        {
          "asyncapi": "3.0.0",
          "channels": {
            "catalogue": {
              "address": "/in/***/{tenant}",
              "messages": {
                "alert": {
                  "contentType": "application/cloudevents+json",
                  "headers": {
                    "properties": {
                      "webhook-id": {
                        "type": "string"
                      },
                      "webhook-signature": {
                        "type": "string"
                      },
                      "webhook-timestamp": {
                        "type": "string"
                      }
                    },
                    "type": "object"
                  },
                  "name": "alert",
                  "payload": {
                    "properties": {
                      "data": {
                        "$ref": "#/components/schemas/event"
                      },
                      "datacontenttype": {
                        "const": "application/json"
                      },
                      "id": {
                        "type": "string"
                      },
                      "outcome": {
                        "type": "string"
                      },
                      "source": {
                        "type": "string"
                      },
                      "specversion": {
                        "type": "string"
                      },
                      "status": {
                        "type": "string"
                      },
                      "subject": {
                        "type": "string"
                      },
                      "tenant": {
                        "type": "string"
                      },
                      "time": {
                        "type": "string"
                      },
                      "type": {
                        "type": "string"
                      }
                    },
                    "required": [
                      "specversion",
                      "id",
                      "source",
                      "type",
                      "status",
                      "outcome",
                      "datacontenttype",
                      "data"
                    ],
                    "type": "object"
                  },
                  "title": "An alert of the relay"
                },
                "event": {
                  "contentType": "application/cloudevents+json",
                  "headers": {
                    "properties": {
                      "webhook-id": {
                        "type": "string"
                      },
                      "webhook-signature": {
                        "type": "string"
                      },
                      "webhook-timestamp": {
                        "type": "string"
                      }
                    },
                    "type": "object"
                  },
                  "name": "event",
                  "payload": {
                    "properties": {
                      "data": {
                        "$ref": "#/components/schemas/event"
                      },
                      "datacontenttype": {
                        "const": "application/json"
                      },
                      "id": {
                        "type": "string"
                      },
                      "outcome": {
                        "type": "string"
                      },
                      "source": {
                        "type": "string"
                      },
                      "specversion": {
                        "type": "string"
                      },
                      "status": {
                        "type": "string"
                      },
                      "subject": {
                        "type": "string"
                      },
                      "tenant": {
                        "type": "string"
                      },
                      "time": {
                        "type": "string"
                      },
                      "type": {
                        "type": "string"
                      }
                    },
                    "required": [
                      "specversion",
                      "id",
                      "source",
                      "type",
                      "status",
                      "outcome",
                      "datacontenttype",
                      "data"
                    ],
                    "type": "object"
                  },
                  "title": "A response of REGARDS"
                }
              },
              "parameters": {
                "tenant": {
                  "description": "`tenant` of the event",
                  "location": "$message.payload#/data/tenant"
                }
              },
              "servers": [
                {
                  "$ref": "#/servers/https_catalogue_example_org"
                }
              ],
              "summary": "The URL of the sink catalogue",
              "title": "catalogue"
            },
            "changed_events": {
              "address": "{team}",
              "bindings": {
                "amqp": {
                  "bindingVersion": "0.3.0",
                  "exchange": {
                    "durable": true,
                    "name": "products",
                    "type": "topic",
                    "vhost": "/"
                  },
                  "is": "routingKey"
                }
              },
              "messages": {
                "event_of_failures": {
                  "contentType": "application/json",
                  "headers": {
                    "properties": {
                      "regards-relay-hops": {
                        "type": "integer"
                      },
                      "regards-relay-id": {
                        "type": "string"
                      },
                      "regards-relay-status": {
                        "type": "string"
                      },
                      "regards-relay-tenant": {
                        "type": "string"
                      },
                      "regards-relay-type": {
                        "type": "string"
                      }
                    },
                    "type": "object"
                  },
                  "name": "event_of_failures",
                  "payload": {
                    "properties": {
                      "correlationId": {
                        "type": "string"
                      },
                      "expires": {
                        "type": [
                          "string",
                          "null"
                        ]
                      },
                      "id": {
                        "type": "string"
                      },
                      "message": {
                        "type": [
                          "string",
                          "null"
                        ]
                      },
                      "outcome": {
                        "type": "string"
                      },
                      "productId": {
                        "type": [
                          "string",
                          "null"
                        ]
                      },
                      "session": {
                        "type": [
                          "string",
                          "null"
                        ]
                      },
                      "source": {
                        "type": "string"
                      },
                      "status": {
                        "type": "string"
                      },
                      "team": {
                        "type": "string"
                      },
                      "tenant": {
                        "type": "string"
                      },
                      "time": {
                        "type": [
                          "string",
                          "null"
                        ]
                      },
                      "type": {
                        "type": "string"
                      },
                      "warnings": {
                        "type": "array"
                      }
                    },
                    "required": [
                      "correlationId",
                      "expires",
                      "id",
                      "message",
                      "outcome",
                      "productId",
                      "session",
                      "source",
                      "status",
                      "team",
                      "tenant",
                      "time",
                      "type",
                      "warnings"
                    ],
                    "type": "object"
                  },
                  "title": "A response of REGARDS, transformed by the route failures"
                }
              },
              "parameters": {
                "team": {
                  "description": "`team` of the event"
                }
              },
              "servers": [
                {
                  "$ref": "#/servers/amqps_rabbit_example_org"
                }
              ],
              "summary": "The exchange of the sink changed.events",
              "title": "changed.events"
            },
            "graves": {
              "address": "graves",
              "messages": {
                "dead_letter": {
                  "bindings": {
                    "kafka": {
                      "bindingVersion": "0.5.0",
                      "key": {
                        "type": "null"
                      }
                    }
                  },
                  "headers": {
                    "properties": {
                      "regards-relay-id": {
                        "type": "string"
                      },
                      "regards-relay-status": {
                        "type": "string"
                      },
                      "regards-relay-tenant": {
                        "type": "string"
                      },
                      "regards-relay-type": {
                        "type": "string"
                      }
                    },
                    "type": "object"
                  },
                  "name": "dead_letter",
                  "title": "A message that became a dead letter, as received, with the reason in its headers"
                }
              },
              "servers": [
                {
                  "$ref": "#/servers/kafka_k1_9092_2"
                },
                {
                  "$ref": "#/servers/kafka_k2_9092_2"
                }
              ],
              "summary": "The topic of the sink graves",
              "title": "graves"
            },
            "many": {
              "address": "/digests",
              "messages": {
                "digest": {
                  "contentType": "application/json",
                  "headers": {
                    "properties": {
                      "webhook-id": {
                        "type": "string"
                      },
                      "webhook-timestamp": {
                        "type": "string"
                      }
                    },
                    "type": "object"
                  },
                  "name": "digest",
                  "payload": {
                    "items": {
                      "$ref": "#/components/schemas/event"
                    },
                    "maxItems": 50,
                    "type": "array"
                  },
                  "title": "A digest of several events"
                }
              },
              "servers": [
                {
                  "$ref": "#/servers/https_catalogue_example_org"
                }
              ],
              "summary": "The URL of the sink many",
              "title": "many"
            },
            "pipeline": {
              "address": "regards.{tenant}.{status}",
              "messages": {
                "event": {
                  "bindings": {
                    "kafka": {
                      "bindingVersion": "0.5.0",
                      "key": {
                        "description": "The result of `{{ correlationId }}`",
                        "type": [
                          "string",
                          "null"
                        ]
                      },
                      "schemaIdLocation": "payload",
                      "schemaIdPayloadEncoding": "confluent",
                      "schemaLookupStrategy": "TopicNameStrategy"
                    }
                  },
                  "headers": {
                    "properties": {
                      "regards-relay-id": {
                        "type": "string"
                      },
                      "regards-relay-status": {
                        "type": "string"
                      },
                      "regards-relay-tenant": {
                        "type": "string"
                      },
                      "regards-relay-type": {
                        "type": "string"
                      },
                      "team": {
                        "type": "string"
                      }
                    },
                    "type": "object"
                  },
                  "name": "event",
                  "payload": {
                    "$ref": "#/components/schemas/event_avro"
                  },
                  "summary": "Encoded by the schema event (avro)",
                  "title": "A response of REGARDS"
                }
              },
              "parameters": {
                "status": {
                  "description": "`status` of the event",
                  "location": "$message.payload#/status"
                },
                "tenant": {
                  "description": "`tenant | lower` of the event"
                }
              },
              "servers": [
                {
                  "$ref": "#/servers/kafka_k1_9092"
                },
                {
                  "$ref": "#/servers/kafka_k2_9092"
                }
              ],
              "summary": "The topic of the sink pipeline",
              "title": "pipeline"
            },
            "regards": {
              "address": "partner.responses",
              "bindings": {
                "amqp": {
                  "bindingVersion": "0.3.0",
                  "is": "queue",
                  "queue": {
                    "name": "partner.responses",
                    "vhost": "regards"
                  }
                }
              },
              "messages": {
                "lta_response": {
                  "$ref": "#/components/messages/lta_response"
                }
              },
              "servers": [
                {
                  "$ref": "#/servers/amqps_rabbit_example_org"
                }
              ],
              "summary": "The queue of the source regards",
              "title": "regards"
            }
          },
          "components": {
            "messages": {
              "lta_response": {
                "contentType": "application/json",
                "headers": {
                  "properties": {
                    "regards.tenant": {
                      "description": "Tenant of the request",
                      "type": "string"
                    }
                  },
                  "type": "object"
                },
                "name": "lta_response",
                "payload": {
                  "$ref": "#/components/schemas/lta_response"
                },
                "title": "Response of REGARDS' family lta"
              }
            },
            "schemas": {
              "lta_response": {
                "properties": {
                  "correlationId": {
                    "type": "string"
                  },
                  "expires": {
                    "type": [
                      "string",
                      "null"
                    ]
                  },
                  "message": {
                    "type": [
                      "string",
                      "null"
                    ]
                  },
                  "productId": {
                    "type": [
                      "string",
                      "null"
                    ]
                  },
                  "responseStatus": {
                    "enum": [
                      "GRANTED",
                      "DENIED",
                      "SUCCESS",
                      "ERROR"
                    ],
                    "type": "string"
                  },
                  "session": {
                    "type": [
                      "string",
                      "null"
                    ]
                  }
                },
                "required": [
                  "correlationId",
                  "responseStatus"
                ],
                "type": "object"
              }
            }
          },
          "id": "urn:example:institute",
          "info": {
            "description": "What regards-relay receives and sends. The version is that of the relay.",
            "title": "urn:example:institute",
            "version": "VERSION"
          },
          "operations": {
            "catalogue": {
              "action": "send",
              "bindings": {
                "http": {
                  "bindingVersion": "0.3.0",
                  "method": "POST"
                }
              },
              "description": "- route everything: every event\n- alert reload: reload_failed",
              "messages": [
                {
                  "$ref": "#/channels/catalogue/messages/alert"
                },
                {
                  "$ref": "#/channels/catalogue/messages/event"
                }
              ],
              "summary": "Events, and alerts of the relay"
            },
            "changed_events": {
              "action": "send",
              "bindings": {
                "amqp": {
                  "bindingVersion": "0.3.0",
                  "deliveryMode": 2
                }
              },
              "description": "- route failures: status ERROR",
              "messages": [
                {
                  "$ref": "#/channels/changed_events/messages/event_of_failures"
                }
              ],
              "summary": "Events"
            },
            "graves": {
              "action": "send",
              "messages": [
                {
                  "$ref": "#/channels/graves/messages/dead_letter"
                }
              ],
              "summary": "Copies of dead letters"
            },
            "many": {
              "action": "send",
              "bindings": {
                "http": {
                  "bindingVersion": "0.3.0",
                  "method": "POST"
                }
              },
              "description": "- route everything: every event",
              "messages": [
                {
                  "$ref": "#/channels/many/messages/digest"
                }
              ],
              "summary": "Digests, each of several events"
            },
            "pipeline": {
              "action": "send",
              "description": "- route everything: every event",
              "messages": [
                {
                  "$ref": "#/channels/pipeline/messages/event"
                }
              ],
              "summary": "Events"
            },
            "regards": {
              "action": "receive",
              "bindings": {
                "amqp": {
                  "ack": true,
                  "bindingVersion": "0.3.0"
                }
              },
              "messages": [
                {
                  "$ref": "#/channels/regards/messages/lta_response"
                }
              ],
              "summary": "Responses of REGARDS"
            }
          },
          "servers": {
            "amqps_rabbit_example_org": {
              "host": "rabbit.example.org",
              "protocol": "amqps"
            },
            "https_catalogue_example_org": {
              "host": "catalogue.example.org",
              "protocol": "https"
            },
            "kafka_k1_9092": {
              "bindings": {
                "kafka": {
                  "bindingVersion": "0.5.0",
                  "schemaRegistryUrl": "https://registry.example.org/v7",
                  "schemaRegistryVendor": "confluent"
                }
              },
              "host": "k1:9092",
              "protocol": "kafka"
            },
            "kafka_k1_9092_2": {
              "host": "k1:9092",
              "protocol": "kafka"
            },
            "kafka_k2_9092": {
              "bindings": {
                "kafka": {
                  "bindingVersion": "0.5.0",
                  "schemaRegistryUrl": "https://registry.example.org/v7",
                  "schemaRegistryVendor": "confluent"
                }
              },
              "host": "k2:9092",
              "protocol": "kafka"
            },
            "kafka_k2_9092_2": {
              "host": "k2:9092",
              "protocol": "kafka"
            }
          }
        }"##]]
    .assert_eq(&serde_json::to_string_pretty(&document).expect("JSON"));
}
