//! Kerberos logins of librdkafka's connections, each by its own principal and keytab.
//!
//! librdkafka logs in by Cyrus SASL, and gives it no credential: Cyrus then takes the one of the whole process. So the relay adds a
//! client mechanism of its own to Cyrus, also named GSSAPI. It is Cyrus' own mechanism with one step before: it finds the
//! [`Login`] by librdkafka's `sasl.username` and gets a ticket for it, from its keytab into a cache in memory. MIT Kerberos gets the
//! next ticket with the first login after half of the ticket's life. There is no timer, no `kinit` and no file.

mod gss;
mod plugin;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who logs in, and the file with its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// As in `relay@EXAMPLE.ORG`; without a realm it is of the default realm of krb5.conf.
    pub principal: String,
    pub keytab: PathBuf,
}

/// The logins of all sinks, by their ids.
static LOGINS: Mutex<BTreeMap<String, Arc<Login>>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A login that connections find by its id. When it is dropped, its tickets are forgotten.
#[derive(Debug)]
pub struct RegisteredLogin {
    id: String,
}

impl Login {
    /// Makes the login known to connections. Starts threads when it is first called, which end at once.
    pub fn register(self) -> Result<RegisteredLogin, String> {
        plugin::install()?;
        let id = format!("kerberos-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        logins().insert(id.clone(), Arc::new(self));
        Ok(RegisteredLogin { id })
    }
}

impl RegisteredLogin {
    /// The value of librdkafka's `sasl.username`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Gets a ticket for the login, unless there is one. Blocks until the key distribution center has answered, or MIT Kerberos gives
    /// it up. The error is that of MIT Kerberos.
    pub fn get_ticket(&self) -> Result<(), String> {
        let login = find(&self.id).ok_or("the login is not registered")?;
        gss::Credential::acquire(&self.id, &login).map(drop)
    }
}

impl Drop for RegisteredLogin {
    fn drop(&mut self) {
        logins().remove(&self.id);
        gss::destroy_cache(&self.id);
    }
}

fn find(id: &str) -> Option<Arc<Login>> {
    logins().get(id).cloned()
}

fn logins() -> MutexGuard<'static, BTreeMap<String, Arc<Login>>> {
    LOGINS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_keytab_is_named_and_a_login_is_forgotten() {
        let login = Login { principal: "relay@EXAMPLE.ORG".to_owned(), keytab: "/nonexistent/keytab".into() };
        let registered = login.clone().register().unwrap();
        let other = login.register().unwrap();
        assert_ne!(registered.id(), other.id());
        let error = registered.get_ticket().unwrap_err();
        assert!(error.contains("/nonexistent/keytab"), "{error}");
        let id = registered.id().to_owned();
        assert!(find(&id).is_some());
        drop(registered);
        assert!(find(&id).is_none());
        assert!(find(other.id()).is_some());
    }
}
