//! Converts `kafka:` of `routes.yaml` to librdkafka's settings. The names of options were checked with the file.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use regards_relay_native::kerberos::{Login, RegisteredLogin};

use super::reasons::explain_reason;
use crate::config::{KafkaConfig, KerberosLogin, Sasl, Secret, producer_settings};
use crate::net::Tls;

/// The settings of librdkafka's producers, and what has to live as long as these.
pub(super) struct ProducerSettings {
    pub(super) client: ClientConfig,
    pub(super) kerberos: Option<RegisteredLogin>,
}

/// Reads the secrets, which blocks. `client` is the relay's name. The error never has a value in it.
pub(super) fn settings(config: &KafkaConfig, client: &str) -> Result<ProducerSettings, String> {
    let mut kerberos = None;
    let options = config.options.iter().map(|(name, value)| Ok((name.clone(), reveal(value)?)));
    let options: Vec<(String, String)> = options.collect::<Result<_, String>>()?;
    let mut settings = producer_settings(client, &options);
    settings.set_log_level(log_level());
    settings.set("bootstrap.servers", &config.brokers);
    settings.set("partitioner", &config.partitioner);
    settings.set(
        "security.protocol",
        match (&config.tls, &config.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        },
    );
    match &config.sasl {
        Some(Sasl::Password { mechanism, username, password }) => {
            settings.set("sasl.mechanism", *mechanism);
            settings.set("sasl.username", reveal(username)?);
            settings.set("sasl.password", reveal(password)?);
        }
        // The producer's thread gives librdkafka each token.
        Some(Sasl::OAuth2 { .. }) => {
            settings.set("sasl.mechanism", "OAUTHBEARER");
        }
        Some(Sasl::Kerberos(login)) => kerberos = Some(set_kerberos(&mut settings, login)?),
        None => {}
    }
    if let Some(tls) = &config.tls {
        set_tls(&mut settings, tls)?;
    }
    check_each(&settings)?;
    Ok(ProducerSettings { client: settings, kerberos })
}

/// The connections find the login by the user name, which the brokers don't see.
fn set_kerberos(settings: &mut ClientConfig, login: &KerberosLogin) -> Result<RegisteredLogin, String> {
    let KerberosLogin { principal, keytab, service } = login;
    let registered = Login { principal: principal.clone(), keytab: keytab.clone() }.register()?;
    settings.set("sasl.mechanism", "GSSAPI");
    settings.set("sasl.username", registered.id());
    settings.set("sasl.kerberos.service.name", service);
    settings.set("sasl.kerberos.principal", principal);
    // Zero switches librdkafka's call of `kinit` off.
    settings.set("sasl.kerberos.min.time.before.relogin", "0");
    Ok(registered)
}

/// Sets the paths of PEM files, which librdkafka reads when the producer is built. librdkafka compares each broker's certificate
/// with the host name that the broker advertises and has no setting for another name, so `server_name` is refused by `check`.
fn set_tls(settings: &mut ClientConfig, tls: &Tls) -> Result<(), String> {
    for (name, path) in
        [("ssl.ca.location", &tls.ca), ("ssl.certificate.location", &tls.cert), ("ssl.key.location", &tls.key)]
    {
        if let Some(path) = path {
            let path = path.to_str().ok_or_else(|| format!("the path {} is not UTF-8", path.display()))?;
            settings.set(name, path);
        }
    }
    Ok(())
}

fn reveal(secret: &Secret) -> Result<String, String> {
    secret.reveal().map_err(|error| error.to_string())
}

/// Checks that librdkafka accepts each setting. Its own error would repeat the value, which may be secret.
fn check_each(settings: &ClientConfig) -> Result<(), String> {
    match settings.create_native_config() {
        Ok(_) => Ok(()),
        Err(error) => Err(explain_config_error(&error)),
    }
}

/// librdkafka's error about the settings, without their values.
pub(super) fn explain_config_error(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(result, _, name, _) => {
            if *result == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
                format!("librdkafka has no setting {name}: see its CONFIGURATION.md for the names")
            } else {
                format!("librdkafka does not accept the value of {name}: see its CONFIGURATION.md")
            }
        }
        KafkaError::Nul(_) => "a setting has a NUL character in it".to_owned(),
        KafkaError::ClientCreation(reason) => explain_reason(reason).into_owned(),
        other => format!("librdkafka can't create a producer ({other})"),
    }
}

/// librdkafka writes only the lines that the relay logs.
fn log_level() -> RDKafkaLogLevel {
    if tracing::enabled!(target: "librdkafka", tracing::Level::DEBUG) {
        RDKafkaLogLevel::Debug
    } else if tracing::enabled!(target: "librdkafka", tracing::Level::INFO) {
        RDKafkaLogLevel::Info
    } else if tracing::enabled!(target: "librdkafka", tracing::Level::WARN) {
        RDKafkaLogLevel::Warning
    } else {
        RDKafkaLogLevel::Error
    }
}
