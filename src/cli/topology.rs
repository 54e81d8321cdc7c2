//! `topology`: what an administrator has to make in RabbitMQ for sources with `shards`, as definitions to import.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::schema::vhost;
use super::{Global, InvalidInput, load_offline};
use crate::config::{AmqpSourceConfig, Config, SourceConfig, SourceKind, SourceShard};
use crate::event::REGARDS_EXCHANGES;

/// Each queue gets the same share of the requests.
const WEIGHT: &str = "1";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The user that the relay logs in as: with it, the definitions have its permission to read the queues
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = match load_offline(&global.config, global) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let Some(definitions) = definitions(&config, arguments.user.as_deref()) else {
        let error = "no source has `shards`: its only queue is the one that REGARDS' administrator has made";
        return Err(InvalidInput(error.to_owned()).into());
    };
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &definitions)?;
    writeln!(out)?;
    Ok(ExitCode::SUCCESS)
}

/// None: no source has several queues.
fn definitions(config: &Config, user: Option<&str>) -> Option<Value> {
    let (mut exchanges, mut queues, mut bindings) = (Vec::new(), Vec::new(), Vec::new());
    let mut readable = BTreeMap::<String, Vec<String>>::new();
    for (source, amqp, shard) in config.sources.iter().filter_map(divided) {
        let vhost = vhost(&amqp.connection);
        let exchange = exchange_of(amqp, shard);
        if shard.number == 0 {
            exchanges.push(json!({
                "name": exchange, "vhost": vhost, "type": "x-consistent-hash", "durable": true, "auto_delete": false,
                "internal": false, "arguments": { "hash-property": "correlation_id" },
            }));
            let families = source.decode_options.expects.families();
            for class in families.iter().flat_map(|family| family.classes) {
                let from = format!("{REGARDS_EXCHANGES}{class}");
                bindings.push(binding(&vhost, &from, ("exchange", &exchange), ""));
            }
        }
        queues.push(json!({
            "name": amqp.queue, "vhost": vhost, "durable": true, "auto_delete": false, "arguments": {},
        }));
        bindings.push(binding(&vhost, &exchange, ("queue", &amqp.queue), WEIGHT));
        readable.entry(vhost).or_default().push(regex_of(&amqp.queue));
    }
    if queues.is_empty() {
        return None;
    }
    let mut definitions = json!({ "exchanges": exchanges, "queues": queues, "bindings": bindings });
    if let (Some(user), Some(members)) = (user, definitions.as_object_mut()) {
        let permission = |(vhost, queues): (String, Vec<String>)| {
            let read = format!("^({})$", queues.join("|"));
            json!({ "user": user, "vhost": vhost, "configure": "^$", "write": "^$", "read": read })
        };
        members.insert("permissions".to_owned(), readable.into_iter().map(permission).collect());
    }
    Some(definitions)
}

fn divided(source: &SourceConfig) -> Option<(&SourceConfig, &AmqpSourceConfig, &SourceShard)> {
    let SourceKind::Amqp(amqp) = &source.kind else { return None };
    Some((source, amqp, amqp.shard.as_ref()?))
}

/// The exchange in front of the queues has their name without the number.
fn exchange_of(amqp: &AmqpSourceConfig, shard: &SourceShard) -> String {
    let name = shard.queue.replace("{shard}", "");
    let name = name.trim_matches(['.', '-', '_']);
    if name.is_empty() { format!("{}.shards", amqp.queue) } else { name.to_owned() }
}

fn binding(vhost: &str, from: &str, (kind, to): (&str, &str), key: &str) -> Value {
    json!({
        "source": from, "vhost": vhost, "destination": to, "destination_type": kind, "routing_key": key, "arguments": {},
    })
}

fn regex_of(name: &str) -> String {
    let escape = |letter: char| if letter.is_alphanumeric() { letter.to_string() } else { format!("\\{letter}") };
    name.chars().map(escape).collect()
}
