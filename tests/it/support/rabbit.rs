//! RabbitMQ as its administrator and other clients see it: the management API, and AMQP with lapin.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::{Value, json};

use super::wait::PATIENCE;
use super::{Services, unique, until, use_ring};

#[derive(Clone)]
pub struct Rabbit {
    services: Services,
    http: reqwest::Client,
}

/// The time limit for one answer of a broker. lapin has no timeout for handshakes or frames, and a broker that stops
/// during a request may never answer it.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A client without persistent connections: the management API closes idle ones and may do so just as the client reuses
/// them.
fn client() -> reqwest::Client {
    reqwest::Client::builder().pool_max_idle_per_host(0).timeout(ANSWER_WITHIN).build().expect("a client")
}

/// Returns the broker's answer, or an error after [`ANSWER_WITHIN`].
pub async fn answered<T>(asked: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
    match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// Opens a channel with publisher confirms on its own connection.
pub async fn open_channel(url: &str) -> lapin::Result<Channel> {
    answered(async {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    })
    .await
}

impl Rabbit {
    pub fn shared() -> Self {
        Self::of(&Services::shared())
    }

    pub fn of(services: &Services) -> Self {
        use_ring();
        Self { services: services.clone(), http: client() }
    }

    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Creates a virtual host for one test.
    pub async fn new_vhost(&self) -> VHost {
        self.vhost(&unique("test")).await
    }

    /// Creates the virtual host with that name, or empties it if it exists.
    pub async fn vhost(&self, name: &str) -> VHost {
        self.delete(&format!("vhosts/{}", encode(name))).await;
        self.put(&format!("vhosts/{}", encode(name)), json!({})).await;
        let vhost = VHost {
            rabbit: self.clone(),
            name: name.to_owned(),
            administrator: Arc::default(),
            _gone_with_the_last: Arc::new(Deletion {
                services: self.services.clone(),
                path: format!("/api/vhosts/{}", encode(name)),
            }),
        };
        vhost.permit(self.services.amqp_user(), ".*", ".*", ".*").await;
        vhost
    }

    /// Creates a user without permissions.
    pub async fn user(&self, name: &str, password: &str) {
        self.put(&format!("users/{}", encode(name)), json!({ "password": password, "tags": "" })).await;
    }

    /// Creates the user that a client with [`client_cert`](Services::client_cert) logs in as, and returns its name. All
    /// tests share it; permissions are those of the test's virtual host.
    pub async fn certificate_user(&self) -> &'static str {
        let name = "regards-relay test client";
        self.put(&format!("users/{}", encode(name)), json!({ "password_hash": "", "tags": "" })).await;
        name
    }

    /// Limits the number of channels that a user may have open.
    pub async fn limit_channels(&self, user: &str, most: u32) {
        self.put(&format!("user-limits/{}/max-channels", encode(user)), json!({ "value": most })).await;
    }

    /// Imports definitions: exchanges, queues, bindings, permissions.
    pub async fn import(&self, definitions: &str) {
        let answer = self.answer(reqwest::Method::POST, "definitions", definitions).await;
        let status = answer.status();
        assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap_or_default());
    }

    async fn put(&self, path: &str, body: Value) {
        let answer = self.answer(reqwest::Method::PUT, path, &body.to_string()).await.error_for_status();
        answer.unwrap_or_else(|error| panic!("PUT {path}: {error}"));
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let answer = self.request(reqwest::Method::GET, path).send().await.map_err(|error| error.to_string())?;
        let answer = answer.error_for_status().map_err(|error| error.to_string())?;
        let body = answer.bytes().await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }

    async fn delete(&self, path: &str) {
        let answer = self.answer(reqwest::Method::DELETE, path, "").await;
        let fine = answer.status().is_success() || answer.status() == reqwest::StatusCode::NOT_FOUND;
        assert!(fine, "DELETE {path}: {}", answer.status());
    }

    /// The management API closes the connection when its own work takes too long. PUT and DELETE requests can be
    /// repeated safely.
    async fn answer(&self, method: reqwest::Method, path: &str, body: &str) -> reqwest::Response {
        until(&format!("the management API to answer {method} {path}"), async || {
            let answer = self.request(method.clone(), path).body(body.to_owned()).send().await;
            match answer.map_err(|error| format!("{error:?}"))? {
                // The broker closed the connection and stopped waiting for the result.
                late if late.status().is_server_error() => Err(late.status().to_string()),
                answer => Ok(answer),
            }
        })
        .await
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://127.0.0.1:{}/api/{path}", self.services.management_port());
        let request = self.http.request(method, url).header("content-type", "application/json");
        request.basic_auth(self.services.amqp_user(), Some(self.services.amqp_password()))
    }
}

/// One virtual host and the operations on it.
#[derive(Clone)]
pub struct VHost {
    rabbit: Rabbit,
    name: String,
    administrator: Arc<tokio::sync::Mutex<Option<Channel>>>,
    _gone_with_the_last: Arc<Deletion>,
}

/// Deletes the virtual host when its last owner is dropped, because each virtual host takes memory of the broker.
struct Deletion {
    services: Services,
    path: String,
}

impl Drop for Deletion {
    /// Uses blocking calls, because the runtime may be shutting down. If the broker has stopped, there is nothing to
    /// delete.
    fn drop(&mut self) {
        let Ok(mut broker) = TcpStream::connect(("127.0.0.1", self.services.management_port())) else { return };
        let login = format!("{}:{}", self.services.amqp_user(), self.services.amqp_password());
        let login = base64::engine::general_purpose::STANDARD.encode(login);
        let head = format!("DELETE {} HTTP/1.0\r\nAuthorization: Basic {login}\r\n\r\n", self.path);
        let _ = broker.set_read_timeout(Some(Duration::from_secs(10)));
        if broker.write_all(head.as_bytes()).is_ok() {
            let _ = broker.read(&mut [0; 64]);
        }
    }
}

impl VHost {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn rabbit(&self) -> &Rabbit {
        &self.rabbit
    }

    /// Sets the user's three permission patterns in this virtual host.
    pub async fn permit(&self, user: &str, configure: &str, write: &str, read: &str) {
        let rights = json!({ "configure": configure, "write": write, "read": read });
        self.rabbit.put(&format!("permissions/{}/{}", encode(&self.name), encode(user)), rights).await;
    }

    /// Revokes all permissions of the user in this virtual host.
    pub async fn forbid(&self, user: &str) {
        self.rabbit.delete(&format!("permissions/{}/{}", encode(&self.name), encode(user))).await;
    }

    /// The names of the user's connections.
    pub async fn connections_of(&self, user: &str) -> Vec<String> {
        until(&format!("the connections of {user}"), async || {
            let connections = self.connections().await?;
            let of_user = connections.iter().filter(|connection| connection["user"] == user);
            Ok(of_user.filter_map(|connection| connection["name"].as_str().map(str::to_owned)).collect())
        })
        .await
    }

    /// Number of frames that the broker has received on the user's only connection.
    pub async fn received_from(&self, user: &str) -> Result<u64, String> {
        let connections = self.connections().await?;
        let connection = connections.iter().find(|connection| connection["user"] == user);
        connection.and_then(|connection| connection["recv_cnt"].as_u64()).ok_or("no connection".to_owned())
    }

    /// Closes the connection of `user` once, as an administrator would. The management API lists a new connection with
    /// a delay.
    pub async fn close_connection_of(&self, user: &str) {
        let name = until(&format!("a connection of {user}"), async || {
            let connections = self.connections().await?;
            let connection = connections.iter().find(|connection| connection["user"] == user);
            connection.and_then(|connection| connection["name"].as_str().map(str::to_owned)).ok_or("none".to_owned())
        })
        .await;
        self.rabbit.delete(&format!("connections/{}", encode(&name))).await;
    }

    pub fn url_for(&self, user: &str, password: &str) -> String {
        self.url_at(user, password, self.rabbit.services.amqp_port())
    }

    /// The URL with another port, for example that of a proxy.
    pub fn url_at(&self, user: &str, password: &str, port: u16) -> String {
        format!("amqp://{}:{}@127.0.0.1:{port}/{}", encode(user), encode(password), encode(&self.name))
    }

    pub fn url_without_login(&self) -> String {
        format!("amqp://127.0.0.1:{}/{}", self.rabbit.services.amqp_port(), encode(&self.name))
    }

    pub fn admin_url(&self) -> String {
        self.url_for(self.rabbit.services.amqp_user(), self.rabbit.services.amqp_password())
    }

    /// Opens a channel with publisher confirms for the administrator, on its own connection.
    pub async fn channel(&self) -> Channel {
        self.try_channel().await.expect("a channel of the administrator")
    }

    pub async fn try_channel(&self) -> lapin::Result<Channel> {
        open_channel(&self.admin_url()).await
    }

    /// Like [`channel`](Self::channel), for a broker that is temporarily unavailable. It does not call `until`, which
    /// spawned tasks cannot use.
    pub async fn channel_when_back(&self) -> Channel {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_channel().await {
                Ok(channel) => return channel,
                Err(error) => assert!(Instant::now() < deadline, "the broker is not back: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The shared channel for the administrator's small operations.
    async fn administrator(&self) -> Channel {
        let mut open = self.administrator.lock().await;
        match open.as_ref() {
            Some(channel) if channel.status().connected() => channel.clone(),
            _ => open.insert(self.channel().await).clone(),
        }
    }

    pub async fn exchange(&self, name: &str, kind: ExchangeKind) {
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let channel = self.administrator().await;
        answered(channel.exchange_declare(name.into(), kind, durable, FieldTable::default()))
            .await
            .expect("an exchange");
    }

    /// Declares an exchange and a queue of this name, which gets all of its messages.
    pub async fn fanout(&self, name: &str) {
        self.exchange(name, ExchangeKind::Fanout).await;
        self.queue(name, FieldTable::default()).await;
        self.bind(name, name, "").await;
    }

    /// Declares a durable queue with these arguments.
    pub async fn queue(&self, name: &str, arguments: FieldTable) {
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let channel = self.administrator().await;
        answered(channel.queue_declare(name.into(), durable, arguments)).await.expect("a queue");
    }

    pub async fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let channel = self.administrator().await;
        let bound = channel.queue_bind(
            queue.into(),
            exchange.into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        answered(bound).await.expect("a binding");
    }

    pub async fn delete_queue(&self, queue: &str) {
        let channel = self.administrator().await;
        answered(channel.queue_delete(queue.into(), QueueDeleteOptions::default())).await.expect("deleted");
    }

    /// The number of ready messages and of consumers, which the queue itself reports without a delay.
    pub async fn depth(&self, queue: &str) -> (u32, u32) {
        let channel = self.administrator().await;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = answered(channel.queue_declare(queue.into(), passive, FieldTable::default())).await;
        let queue = queue.expect("the queue");
        (queue.message_count(), queue.consumer_count())
    }

    /// Number of messages in a queue, ready or not, once only the administrator is connected. A stopped consumer may
    /// hold messages until its connection is closed, and the queue learns that with a delay.
    pub async fn left_in(&self, queue: &str) -> u32 {
        until("the queue to be left alone", async || {
            let others = self.others().await?;
            let held = self.statistics(queue).await?["messages_unacknowledged"].as_u64();
            match self.depth(queue).await {
                (left, 0) if others == 0 && held == Some(0) => Ok(left),
                (_, consumers) => Err(format!("{consumers} consumers of {queue}, {others} connections, held {held:?}")),
            }
        })
        .await
    }

    /// Number of connections of users other than the administrator.
    async fn others(&self) -> Result<usize, String> {
        let administrator = self.rabbit.services.amqp_user();
        Ok(self.connections().await?.iter().filter(|connection| connection["user"] != administrator).count())
    }

    /// The connections as the management API lists them.
    async fn connections(&self) -> Result<Vec<Value>, String> {
        match self.rabbit.get(&format!("vhosts/{}/connections", encode(&self.name))).await? {
            Value::Array(connections) => Ok(connections),
            other => Err(format!("no list of connections: {other}")),
        }
    }

    /// The statistics of a queue from the management API: `messages_ready`, `messages_unacknowledged` and many more.
    /// They are up to about half a second old.
    pub async fn statistics(&self, queue: &str) -> Result<Value, String> {
        self.rabbit.get(&format!("queues/{}/{}", encode(&self.name), encode(queue))).await
    }

    /// Waits until the queue's consumers hold `count` unacknowledged messages.
    pub async fn wait_for_unacknowledged(&self, queue: &str, count: u64) {
        until(&format!("{count} messages of {queue} unacknowledged"), async || {
            let statistics = self.statistics(queue).await?;
            match statistics["messages_unacknowledged"].as_u64() {
                Some(seen) if seen == count => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        })
        .await;
    }

    /// Waits until consumers have acknowledged `count` messages of the queue.
    pub async fn wait_for_acknowledged(&self, queue: &str, count: u64) {
        until(&format!("{count} messages of {queue} to be acknowledged"), async || {
            let statistics = self.statistics(queue).await?;
            match statistics["message_stats"]["ack"].as_u64() {
                Some(acknowledged) if acknowledged >= count => Ok(()),
                acknowledged => Err(format!("{acknowledged:?} are")),
            }
        })
        .await;
    }

    /// Waits until the queue has redelivered `count` messages.
    pub async fn wait_for_redelivered(&self, queue: &str, count: u64) {
        until(&format!("{count} messages of {queue} redelivered"), async || {
            let statistics = self.statistics(queue).await?;
            match statistics["message_stats"]["redeliver"].as_u64() {
                Some(seen) if seen >= count => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        })
        .await;
    }

    /// Collects and acknowledges every message that arrives in a queue from now on.
    pub async fn collect(&self, queue: &str) -> Collected {
        let channel = self.channel().await;
        let consumer = channel.basic_consume(
            queue.into(),
            ShortString::from("collector"),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let mut consumer = answered(consumer).await.expect("a consumer");
        let collected = Collected { messages: Arc::default() };
        let messages = Arc::clone(&collected.messages);
        tokio::spawn(async move {
            // Keeps the channel and its connection open while messages may arrive.
            let _channel = channel;
            while let Some(Ok(delivery)) = consumer.next().await {
                let acked = delivery.ack(BasicAckOptions::default()).await;
                messages.lock().expect("no holder panics").push(AmqpMessage {
                    routing_key: delivery.routing_key.to_string(),
                    body: delivery.data,
                    properties: delivery.properties,
                });
                if acked.is_err() {
                    break;
                }
            }
        });
        collected
    }
}

/// The messages that a test's consumer received from a queue.
pub struct Collected {
    messages: Arc<Mutex<Vec<AmqpMessage>>>,
}

#[derive(Debug, Clone)]
pub struct AmqpMessage {
    pub routing_key: String,
    pub body: Vec<u8>,
    pub properties: BasicProperties,
}

impl AmqpMessage {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub fn header(&self, name: &str) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            AMQPValue::ShortString(text) => Some(text.to_string()),
            AMQPValue::LongLongInt(number) => Some(number.to_string()),
            other => Some(format!("{other:?}")),
        }
    }
}

impl Collected {
    pub fn all(&self) -> Vec<AmqpMessage> {
        self.messages.lock().expect("no holder panics").clone()
    }

    /// Returns the messages since the last call and forgets them, for queues that are too long to keep in memory.
    pub fn take(&self) -> Vec<AmqpMessage> {
        std::mem::take(&mut *self.messages.lock().expect("no holder panics"))
    }

    pub fn count(&self) -> usize {
        self.messages.lock().expect("no holder panics").len()
    }

    pub async fn wait_for(&self, count: usize) -> Vec<AmqpMessage> {
        until(&format!("{count} messages in the queue"), async || match self.count() {
            seen if seen >= count => Ok(()),
            seen => Err(format!("{seen}")),
        })
        .await;
        self.all()
    }
}

/// Percent-encodes one component of a URL.
pub fn encode(part: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    part.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
