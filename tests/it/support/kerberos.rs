//! The Kerberos realm of the brokers, as one relay sees it: through a proxy that its test can cut.

use std::collections::BTreeSet;

use super::{Home, Proxy, Services};

pub const REALM: &str = "RELAY.TEST";

pub struct Realm {
    services: Services,
    proxy: Proxy,
}

impl Realm {
    pub async fn shared() -> Self {
        let services = Services::shared();
        let proxy = Proxy::to(services.kdc_port()).await;
        Self { services, proxy }
    }

    /// Makes it the realm of this relay.
    pub fn of(&self, home: Home) -> Home {
        let direct = format!("kdc = 127.0.0.1:{}", self.services.kdc_port());
        let config = std::fs::read_to_string(self.services.kdc().join("krb5.conf")).expect("krb5.conf");
        assert!(config.contains(&direct), "{config}");
        home.write("krb5.conf", &config.replace(&direct, &format!("kdc = 127.0.0.1:{}", self.proxy.port())));
        let path = home.path("krb5.conf").display().to_string();
        home.with("KRB5_CONFIG", &path)
    }

    /// What connections to the key distribution center go through.
    pub fn proxy(&mut self) -> &mut Proxy {
        &mut self.proxy
    }

    /// The content of a keytab of `scripts/services.sh`.
    pub fn keytab(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.services.kdc().join(format!("{name}.keytab"))).expect("a keytab")
    }

    /// How often the key distribution center has issued tickets for the brokers to this principal. Those of one second are one.
    pub fn logins(&self, principal: &str) -> usize {
        let log = std::fs::read_to_string(self.services.kdc().join("log")).expect("a log");
        let issued = format!(" {principal}@{REALM} for kafka/127.0.0.1@{REALM}");
        let lines = log.lines().filter(|line| line.contains(": ISSUE: ") && line.contains(&issued));
        // `Nov 30 02:32:39 HOST …`
        lines.filter_map(|line| line.split_whitespace().nth(2)).collect::<BTreeSet<_>>().len()
    }
}
