//! The AMQP sink, with a broker that can be cut off.

use lapin::ExchangeKind;
use lapin::types::FieldTable;
use serde_json::Value;

use super::{Destination, Needs, keeps_the_promises};
use crate::support::rabbit::{AmqpMessage, Collected};
use crate::support::{Home, Proxy, Rabbit, VHost};

pub struct Amqp {
    vhost: VHost,
    products: Collected,
    proxy: Proxy,
}

impl Destination for Amqp {
    async fn new(_needs: Needs) -> Self {
        let rabbit = Rabbit::shared();
        let vhost = rabbit.new_vhost().await;
        vhost.exchange("products", ExchangeKind::Topic).await;
        vhost.queue("products", FieldTable::default()).await;
        vhost.bind("products", "products", "#").await;
        let products = vhost.collect("products").await;
        let proxy = Proxy::to(rabbit.services().amqp_port()).await;
        Self { vhost, products, proxy }
    }

    fn sink(&self) -> &'static str {
        r#"{ amqp: { url: "${OUT}", exchange: products, routing_key: "{{ status }}" }, retry: { initial_backoff: 100ms, max_backoff: 500ms } }"#
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let services = self.vhost.rabbit().services();
        vec![("OUT", self.vhost.url_at(services.amqp_user(), services.amqp_password(), self.proxy.port()))]
    }

    async fn events(&mut self, _home: &Home) -> Vec<Value> {
        self.products.all().iter().map(AmqpMessage::json).collect()
    }

    /// No queue is bound, so the broker returns every message as unroutable.
    async fn fail_for_now(&mut self, _home: &Home) {
        let (queue, exchange) = ("products".into(), "products".into());
        let unbound = self.vhost.channel().await;
        unbound.queue_unbind(queue, exchange, "#".into(), FieldTable::default()).await.expect("unbound");
    }

    async fn take_again(&mut self, _home: &Home) {
        self.vhost.bind("products", "products", "#").await;
    }

    async fn go_down(&mut self, _home: &Home) {
        self.proxy.go_down().await;
    }

    async fn come_back(&mut self, _home: &Home) {
        self.proxy.come_back().await;
    }

    async fn hold(&mut self, _home: &Home) {
        self.proxy.hold();
    }

    async fn release(&mut self, _home: &Home) {
        self.proxy.release();
    }
}

// RabbitMQ accepts every message within its limits, so it has no permanent rejection to test.
keeps_the_promises!(Amqp:
    confirms_only_after_the_destination_has_it,
    retries_until_it_is_taken,
    keeps_order_per_key_across_failures,
    survives_a_restart_of_the_destination,
    stops_cleanly_with_deliveries_in_flight,
    never_exceeds_its_bounds,
);
